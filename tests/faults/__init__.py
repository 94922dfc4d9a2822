"""The fault matrix: real processes killed, stopped, starved and cut off under load: `python -m tests.faults`."""
