"""The HTTP operations, by noun. Who may call them is decided where they are mounted: in `server.app`."""
