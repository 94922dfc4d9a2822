"""From the bytes of a request to checked parameters and stored pictures."""
