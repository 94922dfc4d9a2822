"""The worker process: RQ loop, stages of a request, model loader, watchdog. The gateway does not import it."""
