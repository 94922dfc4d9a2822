"""What lies in Redis (`state`), the result store (`store`), and the worker process (`engine`)."""
