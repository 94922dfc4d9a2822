"""The processes of a server under test, and what stands in for them."""
