"""A worker has several requests in flight, executing and prefetched: what becomes of them when it ends."""

from __future__ import annotations

import signal

import pytest

from tests.faults.behaviour import Behaviour
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.waiting import until

_HASTY = {"heartbeat_ttl_s": 2, "janitor_interval_s": 0.5}


def _fill(made: Cluster, count: int = 16) -> dict[str, str]:
    """Enqueue so many requests, wait until the one worker has claimed several; returns those in flight by id."""
    for _ in range(count):
        made.caller.accept(Behaviour(steps=3, step_ms=150))
    made.workers[0].start()
    until(lambda: made.redis.client.hlen("facelight:running") >= 3, "a run, and prefetched requests")
    return dict(made.redis.client.hgetall("facelight:running"))


def _names(fields: dict[bytes, bytes]) -> set[str]:
    return {name.decode() for name in fields}


@pytest.mark.slow
def test_killed_with_many_in_flight() -> None:
    with cluster(workers=1, keep=False, **_HASTY) as made:
        made.workers[0].kill()
        in_flight = _names(_fill(made))
        until(lambda: len(made.redis.client.hkeys("facelight:running")) > 4, "prefetched requests")
        in_flight |= _names(made.redis.client.hgetall("facelight:running"))
        made.workers[0].kill()
        made.workers[0].start()
        made.settled()
        assert {made.caller.status(found) for found in made.caller.accepted} == {"COMPLETED"}
        assert made.audit() == []
        for request_id, label in made.caller.accepted.items():
            assert made.runs.count(label) <= (2 if request_id in in_flight else 1)


@pytest.mark.slow
def test_terminated_with_many_in_flight() -> None:
    with cluster(workers=1, keep=False) as made:
        made.workers[0].kill()
        _fill(made)
        until(lambda: len(made.redis.client.hkeys("facelight:running")) > 4, "prefetched requests")
        made.workers[0].send(signal.SIGTERM)
        assert made.workers[0].wait() == 0
        found = [made.caller.status(request_id) for request_id in made.caller.accepted]
        assert set(found) == {"COMPLETED", "QUEUED"}
        assert made.redis.client.hlen("facelight:running") == 0
        made.workers[0].start()
        made.settled()
        assert made.audit() == []
