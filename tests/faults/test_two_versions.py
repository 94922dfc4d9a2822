"""Gateways and workers of two versions share one Redis: this one, and a copy of its source that a test changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.faults.behaviour import Behaviour
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.members import Member
from tests.faults.processes.other_version import MORE_FIELDS, other_version
from tests.faults.processes.waiting import until
from tests.live_server import free_port

OURS, THEIRS = 0, 1
"""The gateways, by number."""
NEWER_RECORDS = {
    "RECORD_VERSION: Final = 1": "RECORD_VERSION: Final = 2",
    "frozenset({1})": "frozenset({1, 2})",
}
NEWER_QUEUE = {"QUEUE_VERSION: Final = 1": "QUEUE_VERSION: Final = 2"}


@dataclass
class Other:
    """The processes of the other version."""

    gateway: Member
    worker: Member


@contextmanager
def beside(made: Cluster, changes: Mapping[str, str]) -> Iterator[Other]:
    """A gateway of another version, started, and a worker that is not; `changes` are of texts of `workers/state`."""
    port = str(free_port())
    environment = made.environment | other_version(made.folder / "other", changes) | {"FACELIGHT_PORT": port}
    run = (sys.executable, "-m")
    gateway = Member("their-gateway", (*run, "server"), environment, made.folder)
    worker = Member("their-worker", (*run, "tests.faults.processes.fake_worker"), environment, made.folder)
    made.caller.urls.append(f"http://127.0.0.1:{port}")
    try:
        gateway.start()
        until(lambda: made.caller.call("GET", "/health/live", THEIRS).code == 200, "their gateway")
        yield Other(gateway, worker)
    finally:
        gateway.end()
        worker.end()


@pytest.fixture
def made() -> Iterator[Cluster]:
    with cluster(janitor_interval_s=0.5) as made:
        yield made


def run_by(made: Cluster, request_id: str) -> int:
    """Number of the process that ran a request, which must have run once."""
    (run,) = made.runs.of(made.caller.accepted[request_id])
    return run.pid


def test_records_with_more_fields_are_served_by_both(made: Cluster) -> None:
    with beside(made, MORE_FIELDS) as other:
        other.worker.start()
        ready = [f"/health/ready of {gateway}" for gateway in (OURS, THEIRS)]
        for gateway, what in enumerate(ready):
            until(lambda gateway=gateway: _ready(made, gateway) == 2, what)
        job = {"steps": 2, "step_ms": 20.0}
        ids = [made.caller.accept(Behaviour(**job), gateway=number % 2) for number in range(24)]
        made.settled()
        for gateway in (OURS, THEIRS):
            assert {made.caller.status(request_id, gateway) for request_id in ids} == {"COMPLETED"}
        workers = {(number % 2, run_by(made, request_id)) for number, request_id in enumerate(ids)}
        pids = (made.workers[0].pid, other.worker.pid)
        assert workers == {(gateway, pid) for gateway in (OURS, THEIRS) for pid in pids}, "each served both kinds"
        shades = [made.redis.client.hget(f"facelight:request:{request_id}", "shade") for request_id in ids]
        assert shades == [None, b"blue"] * 12, "a field that this version does not know is still there"
        assert made.audit() == []


@pytest.mark.slow
def test_newer_records_wait_for_newer_workers(made: Cluster) -> None:
    with beside(made, NEWER_RECORDS) as other:
        newer = made.caller.accept(Behaviour(), gateway=THEIRS)
        older = made.caller.accept(Behaviour(), gateway=OURS)
        until(lambda: made.caller.status(older) == "COMPLETED", "a request behind it")
        assert made.caller.status(newer, THEIRS) == "QUEUED", "no worker can read it yet"
        refusal = made.caller.call("GET", f"/v2/requests/{newer}/status", OURS)
        assert (refusal.code, "retry-after" in refusal.headers) == (503, True)
        assert "a newer version of the server" in refusal.body["error"]
        other.worker.start()
        until(lambda: made.caller.status(newer, THEIRS) == "COMPLETED", "a newer worker to serve it")
        assert run_by(made, newer) == other.worker.pid
        assert made.caller.status(older, THEIRS) == "COMPLETED", "it reads what the older one wrote"


@pytest.mark.slow
def test_a_newer_queue_is_refused_in_words(made: Cluster) -> None:
    before = made.caller.accept(Behaviour(steps=40, step_ms=50))
    with beside(made, NEWER_QUEUE) as other:
        until(lambda: made.caller.status(before) == "PROCESSING", "a request to be run")
        newer = made.caller.accept(Behaviour(), gateway=THEIRS)
        refusal = made.caller.submit(Behaviour(), gateway=OURS)
        assert (refusal.code, "retry-after" in refusal.headers) == (503, True)
        words = "the queue in this Redis is of version 2, written by a newer facelight; this one knows version 1"
        until(lambda: words in made.gateways[0].log.read_text(), "the gateway's log")
        until(lambda: words in made.workers[0].log.read_text(), "the worker's log")
        other.worker.start()
        until(lambda: made.caller.status(newer, THEIRS) == "COMPLETED", "a newer worker to serve it")
        assert run_by(made, newer) == other.worker.pid
        until(lambda: made.caller.status(before, THEIRS) == "COMPLETED", "what was under way, again", 90)


def _ready(made: Cluster, gateway: int) -> int:
    answer = made.caller.call("GET", "/health/ready", gateway)
    return int(answer.body["workers"]) if answer.code == 200 else 0
