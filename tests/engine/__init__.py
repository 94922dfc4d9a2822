"""The composition on a container engine, as an operator runs it: `python -m tests.engine`."""
