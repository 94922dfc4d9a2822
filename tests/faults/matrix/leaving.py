"""Callers who want no more: cancelled requests, clients that hang up."""

from __future__ import annotations

import http.client
import json
import time
from urllib.parse import urlsplit

from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.caller import body_for
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.waiting import until

_QUEUED_S = 1.0
_STEP_MS = 200.0
_IDLE_S = 2.0


def cancelled(full: bool, finding: Finding) -> None:
    """DELETE of requests that wait, that run, and that have ended."""
    waits, stops = list[float](), list[float]()
    with cluster(workers=1, keep=False) as made:
        for _ in range(10 if full else 1):
            _cancel_running(made, finding, waits, stops)
        for _ in range(10 if full else 1):
            _cancel_finished(made, finding)
        finding.blame(*made.audit())
    finding.blame(*[f"a waiting request ended {s:.2f} s after DELETE" for s in waits if s > _QUEUED_S])
    limit = _STEP_MS / 1000 + 1
    finding.blame(*[f"a run went on for {s:.2f} s after DELETE" for s in stops if s > limit])
    finding.figure = f"waiting: {max(waits, default=0):.2f} s; running: {max(stops, default=0):.2f} s at most"


def _cancel_running(made: Cluster, finding: Finding, waits: list[float], stops: list[float]) -> None:
    """One that runs, and one that waits behind it."""
    running, waiting = Behaviour(steps=100, step_ms=_STEP_MS), Behaviour()
    first, second = made.caller.accept(running), made.caller.accept(waiting)
    until(lambda: any(run.steps for run in made.runs.of(running.label)), "the first step")
    waits.append(_cancel(made, second))
    finding.trial(_of_cancelled(made, second))
    finding.blame(unless(made.runs.count(waiting.label) == 0, "a cancelled request was run"))
    asked = time.monotonic()
    _cancel(made, first)
    finding.trial(_of_cancelled(made, first))
    time.sleep(_STEP_MS / 1000 * 2)
    stops.append(made.runs.of(running.label)[0].steps[-1] - asked)


def _cancel(made: Cluster, request_id: str) -> float:
    began = time.monotonic()
    answer = made.caller.cancel(request_id)
    assert answer.code in (200, 202, 422), answer
    until(lambda: made.caller.status(request_id) == "FAILED", "the end of a cancelled request", 10, pause_s=0.01)
    return time.monotonic() - began


def _of_cancelled(made: Cluster, request_id: str) -> str:
    words = str(made.caller.result(request_id).get("error"))
    return unless("cancelled" in words, f"{request_id} says {words!r}")


def _cancel_finished(made: Cluster, finding: Finding) -> None:
    request_id = made.caller.accept(Behaviour())
    until(lambda: made.caller.status(request_id) == "COMPLETED", "a request to complete")
    before = made.caller.result(request_id)
    answer = made.caller.cancel(request_id)
    unchanged = made.caller.result(request_id) == before
    finding.trial(unless(answer.code == 200 and unchanged, f"DELETE of a finished request: {answer}"))


def hung_up(full: bool, finding: Finding) -> None:
    """Clients of v1 that close their connection while they wait, without and with an Idempotency-Key."""
    idle = list[float]()
    with cluster(workers=1, keep=False) as made:
        for number in range(10 if full else 1):
            _hang_up(made, "", idle, finding)
            _hang_up(made, f"key-{number}", idle, finding)
        finding.blame(*made.audit())
    finding.blame(*[f"a run went on for {s:.1f} s after its client had left" for s in idle if s > _IDLE_S])
    finding.figure = f"the run ends {max(idle, default=0):.2f} s after its client at most; with a key it goes on"


def _hang_up(made: Cluster, key: str, idle: list[float], finding: Finding) -> None:
    behaviour = Behaviour(steps=30 if key else 100, step_ms=100)
    connection = http.client.HTTPConnection(urlsplit(made.caller.urls[0]).netloc)
    headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
    connection.request("POST", "/v1/ic-light", json.dumps(body_for(behaviour)), headers)
    until(lambda: made.runs.count(behaviour.label), "the run to begin")
    connection.close()
    left = time.monotonic()
    request_id = _id_of(made, behaviour.label)
    expected = "COMPLETED" if key else "FAILED"
    until(lambda: made.caller.status(request_id) == expected, f"a request left alone to be {expected}", 20)
    if not key:
        time.sleep(behaviour.step_ms / 1000 * 2)  # the request ends at once, its run with the step that it is at
        idle.append(max(made.runs.of(behaviour.label)[0].steps, default=left) - left)
    finding.trial()


def _id_of(made: Cluster, label: str) -> str:
    """The request with that label, whoever has been told its id."""
    for key in made.redis.client.scan_iter("facelight:request:*"):
        if label.encode() in made.redis.client.hget(key, "params"):
            return str(key.decode().rpartition(":")[2])
    raise AssertionError(f"no request is labelled {label}")


FAULTS = (
    Fault(
        "F13",
        "requests are cancelled",
        f"DELETE of queued, running (steps of {_STEP_MS:.0f} ms) and finished requests",
        "queued ≤ 1 s, running ≤ 1 step + 1 s, finished unchanged",
        cancelled,
    ),
    Fault(
        "F14",
        "a client disconnects during a v1 call",
        "the socket closed in the middle of the run, without and with an Idempotency-Key",
        "device idle ≤ 2 s after the disconnect; with a key the request completes",
        hung_up,
    ),
)
