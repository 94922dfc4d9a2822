"""An operator pauses the workers of a running server and lets them go on."""

from __future__ import annotations

import time

import pytest

from tests.faults.behaviour import Behaviour
from tests.faults.processes.cluster import cluster
from tests.faults.processes.waiting import until
from workers.state.suspension import resume, suspend


@pytest.mark.slow
def test_idle_workers_that_are_paused_take_nothing() -> None:
    """RQ's loop alone would have each of them take one more request: it looks for the pause before it waits."""
    with cluster(workers=2) as made:
        made.caller.accept(Behaviour())
        made.settled()
        suspend(made.redis.client)
        waiting = [made.caller.accept(Behaviour()) for _ in range(6)]
        time.sleep(3)
        assert {made.caller.status(request_id) for request_id in waiting} == {"QUEUED"}
        assert made.caller.call("GET", "/health/ready").body["paused"] is True
        assert resume(made.redis.client)
        until(lambda: {made.caller.status(one) for one in waiting} == {"COMPLETED"}, "all to be completed", 15)
        assert made.audit() == []


@pytest.mark.slow
def test_what_runs_is_finished_and_nothing_follows() -> None:
    with cluster() as made:
        running, waiting = (made.caller.accept(Behaviour(steps=10, step_ms=100)) for _ in range(2))
        until(lambda: made.caller.status(running) == "PROCESSING", "the first to run")
        suspend(made.redis.client, 4)
        until(lambda: made.caller.status(running) == "COMPLETED", "the first to be finished")
        time.sleep(0.5)
        assert made.caller.status(waiting) == "QUEUED"
        until(lambda: made.caller.status(waiting) == "COMPLETED", "the pause to end by itself", 15)
