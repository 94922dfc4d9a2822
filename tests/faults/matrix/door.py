"""Gateways that are told to end, killed between two writes, or asked the same thing many times at once."""

from __future__ import annotations

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from tests.faults.audit_log import read_audit_log
from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.caller import Answer, body_for
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.load import SteadyLoad
from tests.faults.processes.members import ends_of
from tests.faults.processes.waiting import until

_REPAIR_S = 30.0
_POLL_S = 0.25


class Balancer:
    """A client that asks each gateway whether it is ready, and calls in turn those that were when last asked."""

    def __init__(self, made: Cluster) -> None:
        self._made = made
        self._turns = count()
        self._ready = list(range(len(made.gateways)))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Balancer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def call(self) -> Answer:
        """One call of a mixed kind: three submissions, one v1 call that waits for its picture."""
        turn = next(self._turns)
        ready = self._ready
        gateway = ready[turn % len(ready)]
        if turn % 4:
            return self._made.caller.submit(Behaviour(), gateway=gateway)
        body = body_for(Behaviour(steps=2, step_ms=50))
        return self._made.caller.call("POST", "/v1/ic-light", gateway, json=body)

    def _look(self) -> None:
        numbers = range(len(self._made.gateways))
        while not self._ended.wait(_POLL_S):
            answers = [self._made.caller.call("GET", "/health/ready", number) for number in numbers]
            self._ready = [number for number in numbers if answers[number].code == 200] or self._ready


def drained(full: bool, finding: Finding) -> None:
    """SIGTERM to one of two gateways under load, again and again, behind a client that asks who is ready."""
    with cluster(gateways=2, workers=2, drain_delay_s=1 if not full else 3) as made:
        with Balancer(made) as balancer, SteadyLoad(balancer.call, rate=25, threads=8) as load:
            for number in range(6 if full else 1):
                finding.blame(_drain(made, number % 2))
            until(lambda: len(load.answers) >= (1000 if full else 100), "all calls", timeout_s=120)
        made.settled()
        for _, answer in load.answers:
            finding.trial(unless(answer.code == 200, f"a call got {answer.code} {answer.broke or answer.body}"))
        finding.blame(*made.audit())
    resets = sum(answer.code == 0 for _, answer in load.answers)
    finding.figure = f"{resets} resets of {len(load.answers)} calls across {6 if full else 1} SIGTERMs"


def _drain(made: Cluster, number: int) -> str:
    gateway = made.gateways[number]
    time.sleep(2.0)
    gateway.send(signal.SIGTERM)
    ends_of([gateway])
    status = gateway.wait()
    gateway.start()
    until(lambda: made.caller.call("GET", "/health/ready", number).code == 200, "the gateway's return")
    return unless(status in (0, -signal.SIGTERM), f"the gateway ended with status {status}")


def killed_gateway(full: bool, finding: Finding) -> None:
    """SIGKILL while submissions are on their way, at a random moment."""
    slowest = 0.0
    with cluster(workers=2) as made:
        for _ in range(40 if full else 2):
            with SteadyLoad(lambda: made.caller.submit(Behaviour()), rate=200, threads=8):
                time.sleep(random.uniform(0.5, 1.0))
                made.gateways[0].kill()
            made.gateways[0].start()
            seconds = until(lambda: _unended(made) == 0, "every record to end", 60, pause_s=0.2)
            slowest = max(slowest, seconds)
            finding.trial(unless(seconds <= _REPAIR_S, f"the last request ended {seconds:.0f} s after the kill"))
        unanswered = len(set(read_audit_log(made.redis.append_only_file)) - set(made.caller.accepted))
        finding.blame(*made.audit(pictures=False))
    finding.figure = (
        f"{len(made.caller.accepted)} accepted and {unanswered} unanswered requests, all ended within {slowest:.1f} s"
    )


def _unended(made: Cluster) -> int:
    lives = read_audit_log(made.redis.append_only_file).values()
    return sum(life.ends == 0 for life in lives)


def duplicates(full: bool, finding: Finding) -> None:
    """One submission fifty times at once, with one Idempotency-Key; then another body with the same key."""
    with cluster(gateways=2, workers=2) as made:
        for number in range(10 if full else 1):
            _submit_fifty_times(made, f"key-{number}", finding)
        made.settled()
        finding.blame(*made.audit())
    finding.figure = f"{finding.survived}/{finding.trials} answers with the one id of their key; another body got 409"


def _submit_fifty_times(made: Cluster, key: str, finding: Finding) -> None:
    behaviour = Behaviour(steps=2, step_ms=100)
    with ThreadPoolExecutor(50) as pool:
        submit = made.caller.submit
        answers = list(pool.map(lambda turn: submit(behaviour, gateway=turn % 2, key=key, seed=7), range(50)))
    ids = [str(answer.body.get("request_id")) if answer.code == 200 else answer.code for answer in answers]
    usual = max(set(ids), key=ids.count)
    for found in ids:
        finding.trial(unless(found == usual and isinstance(found, str), f"{found} instead of {usual}"))
    made.settled()
    again = made.caller.submit(behaviour, key=key, seed=7)
    finding.blame(unless(again.code == 200 and again.request_id == usual, f"a late duplicate got {again}"))
    other = made.caller.submit(behaviour, key=key, seed=8)
    finding.blame(unless(other.code == 409, f"another body with the same key got {other.code}"))
    runs = made.runs.count(behaviour.label)
    finding.blame(unless(runs == 1, f"it ran {runs} times"))


FAULTS = (
    Fault(
        "F9",
        "a gateway is terminated under load",
        "SIGTERM to one of two gateways, a client that polls readiness, v2 and v1 calls",
        "0 connection resets of 1,000 calls; every accepted request answered",
        drained,
    ),
    Fault(
        "F11",
        "the gateway is killed between its writes",
        "SIGKILL at a random moment with 8 submissions in flight",
        "each is refused or reaches a final state; inconsistencies are repaired within 30 s",
        killed_gateway,
    ),
    Fault(
        "F12",
        "one submission is sent fifty times concurrently",
        "50 threads, 2 gateways, one Idempotency-Key",
        "50/50 the same request, one run; another body 409",
        duplicates,
    ),
)
