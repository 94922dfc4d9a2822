"""The HTTP protocol around the application: server, limits of connections and bodies, draining."""
