"""`python -m tests.faults.played_gateway`: a gateway process as it is, but for its wall clock, which a test can set."""

from __future__ import annotations

from runpy import run_module

from tests.faults import played_clock

if __name__ == "__main__":
    played_clock.install("gateway")
    run_module("server", run_name="__main__")
