"""The HTTP protocol around the application: server, parser, limits of connections and bodies, draining."""
