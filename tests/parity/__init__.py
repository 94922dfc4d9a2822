"""Golden vectors of the original implementations, run through the project's own modules: `python -m tests.parity`."""
