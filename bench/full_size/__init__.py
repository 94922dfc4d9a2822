"""Networks and work at full size, with random weights."""
