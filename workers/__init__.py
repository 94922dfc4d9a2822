"""What gateway and worker processes share, and the worker: request records, queue, result store, janitor."""
