"""`python -m tests.faults.processes.gateway_with_fake_clock`: a gateway process as it is, but for its wall clock, which
a test can set."""

from __future__ import annotations

from runpy import run_module

from tests.faults.processes import fake_clock

if __name__ == "__main__":
    fake_clock.install("gateway")
    run_module("server", run_name="__main__")
