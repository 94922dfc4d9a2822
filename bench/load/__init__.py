"""Serving under load: the processes, a client, and what is measured with them."""
