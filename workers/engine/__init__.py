"""The worker process: RQ loop, stages, model loader, heartbeat, watchdog. The gateway does not import it."""
