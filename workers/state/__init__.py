"""All that lies in Redis: records, queues, issued keys, live workers. The gateway imports this package too."""
