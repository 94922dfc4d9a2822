"""State in Redis: request records and queues, API keys, the worker registry. Gateway and workers import it."""
