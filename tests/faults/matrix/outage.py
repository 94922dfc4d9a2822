"""Redis that dies, is full, does not answer, or loses its connections."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from functools import partial

from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.caller import Answer
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.load import SteadyLoad, outages
from tests.faults.processes.waiting import percentile, until
from workers.state.keys import Keys

_RECOVERY_S = 10.0
_CALL_S = 5.0
_READY_S = 2.0
_JOB = {"steps": 3, "step_ms": 30.0}


def restarted(full: bool, finding: Finding) -> None:
    """redis-server killed and told to end in turn, under load and idle."""
    recoveries = list[float]()
    with cluster(workers=3) as made:
        with _traffic(made, rate=10) as load:
            for number in range(50 if full else 2):
                finding.trial(_restart(made, number, recoveries, full))
        made.settled(timeout_s=120)
        for number in range(10 if full else 0):
            finding.trial(_restart(made, number, recoveries, full))
        made.settled()
        finding.blame(*set(outages(load.answers)), *made.audit())
        _blame_failures(made, finding)
    p99 = percentile(recoveries, 0.99)
    finding.blame(unless(p99 <= _RECOVERY_S, f"recovery took {p99:.1f} s (p99)"))
    finding.figure = f"{_sum_up(made, load)}; a submitted request completes {p99:.1f} s (p99) after Redis is back"


def _restart(made: Cluster, number: int, recoveries: list[float], full: bool) -> str:
    time.sleep(random.uniform(0.2, 1.5))
    if number % 3 == 0:
        _wait_for_commit(made)
    made.redis.kill(signal.SIGTERM if number % 2 else signal.SIGKILL)
    time.sleep(random.uniform(0.1, 5.0 if full else 1.0))
    made.redis.start()
    back, answers = time.monotonic(), list[Answer]()

    def accepted() -> bool:
        answers.append(made.caller.submit(Behaviour()))
        return answers[-1].code == 200

    until(accepted, "a submission after the restart", timeout_s=30)
    until(lambda: made.caller.status(answers[-1].request_id) == "COMPLETED", "its completion", timeout_s=60)
    recoveries.append(time.monotonic() - back)
    return next(iter(outages([(0.0, answer) for answer in answers])), "")


def _wait_for_commit(made: Cluster) -> None:
    """Return at about the moment at which a worker stores a result."""
    job = Behaviour(steps=10, step_ms=50)
    made.caller.accept(job)
    until(lambda: made.runs.count(job.label), "a job to begin")
    ends = made.runs.of(job.label)[0].began + job.seconds
    time.sleep(max(0.0, ends + random.uniform(-0.005, 0.04) - time.monotonic()))


def full_redis(full: bool, finding: Finding) -> None:
    """Redis at its memory limit (noeviction) while jobs run."""
    seconds = 15.0 if full else 5.0
    with cluster(workers=2, keep=False, **({} if full else {"heartbeat_ttl_s": 3})) as made:
        for _ in range(5 if full else 1):
            _fill(made, seconds, finding)
        made.settled()
        finding.blame(*made.audit())
        finding.blame(*[f"{worker.name} ended" for worker in made.workers if not worker.alive])
    finding.figure = "submissions got 503 with Retry-After, reads went on, running jobs completed, 0 processes ended"


def _fill(made: Cluster, seconds: float, finding: Finding) -> None:
    jobs = [Behaviour(steps=int(seconds * 10), step_ms=100) for _ in made.workers]
    ids = [made.caller.accept(job) for job in jobs]
    until(lambda: all(made.runs.count(job.label) for job in jobs), "the jobs to begin")
    made.redis.client.config_set("maxmemory", "1mb")  # less than it holds already
    try:
        refused = made.caller.submit(Behaviour())
        finding.blame(unless(refused.code == 503 and "retry-after" in refused.headers, f"a submission: {refused}"))
        states = {made.caller.status(request_id) for request_id in ids}
        finding.blame(unless(states == {"PROCESSING"}, f"reads of running requests: {states}"))
        until(lambda: all(_painted(made, job) for job in jobs), "the runs to end")
        until(lambda: {made.caller.status(found) for found in ids} == {"COMPLETED"}, "the jobs to complete", 10)
    finally:
        made.redis.client.config_set("maxmemory", "0")
    later = made.caller.accept(Behaviour())
    until(lambda: made.caller.status(later) == "COMPLETED", "a request after it")
    runs = [made.runs.count(job.label) for job in jobs]
    finding.trial(unless(set(runs) == {1}, f"the jobs ran {runs} times"))


def _painted(made: Cluster, job: Behaviour) -> bool:
    return any(run.painted for run in made.runs.of(job.label))


def silent(full: bool, finding: Finding) -> None:
    """Redis that keeps its connections and answers nothing for a while: behind a silent network, and stopped itself."""
    lives, readies = list[float](), list[float]()
    with cluster(workers=2, shim=True) as made:
        assert made.shim is not None
        network = made.shim.pause, made.shim.resume
        process = partial(made.redis.send, signal.SIGSTOP), partial(made.redis.send, signal.SIGCONT)
        with _traffic(made, rate=10) as load:
            for pause_s in (5.0, 20.0, 60.0, 5.0, 20.0) if full else (5.0,):
                for ways in (network, process):
                    time.sleep(random.uniform(0.5, 1.5))  # in which some requests are accepted
                    finding.trial(_silence(made, pause_s, *ways, lives, readies))
        made.settled(timeout_s=120)
        finding.blame(*set(outages(load.answers)), *made.audit())
        _blame_failures(made, finding)
        finding.blame(*[f"{member.name} ended" for member in (*made.gateways, *made.workers) if member.exits])
    longest = max(answer.seconds for _, answer in load.answers)
    finding.blame(
        unless(longest <= _CALL_S, f"a call took {longest:.1f} s"),
        unless(max(readies) <= _READY_S, f"/health/ready took {max(readies):.1f} s"),
    )
    finding.figure = (
        f"{_sum_up(made, load)}; longest call {longest:.1f} s, /health/ready {max(readies):.1f} s, "
        f"/health/live {max(lives) * 1000:.0f} ms; no process ended"
    )


def _silence(
    made: Cluster,
    pause_s: float,
    begin: Callable[[], None],
    end: Callable[[], None],
    lives: list[float],
    readies: list[float],
) -> str:
    begin()
    try:
        ends = time.monotonic() + pause_s
        while time.monotonic() < ends:
            lives.append(made.caller.call("GET", "/health/live").seconds)
            readies.append(made.caller.call("GET", "/health/ready").seconds)
            time.sleep(0.2)
    finally:
        end()
    seconds = until(lambda: made.caller.submit(Behaviour()).code == 200, "a submission afterwards", 30)
    return unless(seconds <= _RECOVERY_S, f"the first submission was accepted after {seconds:.1f} s")


def cut_off(full: bool, finding: Finding) -> None:
    """All connections to Redis broken at random moments, with the answers in them; a metered key pays for it all."""
    with cluster(workers=3, shim=True, require_key="true") as made:
        assert made.shim is not None
        key, secret = Keys(made.redis.client).add("payer", credits=1_000_000)
        made.caller.headers["x-api-key"] = secret
        with _traffic(made, rate=20) as load:
            while finding.trials < (200 if full else 20):
                time.sleep(random.uniform(0.02, 0.3))
                if made.shim.cut():
                    finding.trial()
            time.sleep(1.0)
        made.settled(timeout_s=120)
        finding.blame(*set(outages(load.answers)), *made.audit())
        _blame_failures(made, finding)
        left = Keys(made.redis.client).get(key.id)
        spent = 1_000_000 - (left.credits or 0) if left else -1
        pictures = sum(len(made.caller.result(found).get("images", ())) for found in _all_requests(made))
        finding.blame(unless(spent == pictures, f"{spent} credits were taken for {pictures} pictures"))
    finding.figure = f"{_sum_up(made, load)}; {spent:.0f} credits charged for {pictures} pictures"


def _all_requests(made: Cluster) -> list[str]:
    """Also those whose submission was never answered."""
    keys = made.redis.client.scan_iter("facelight:request:*", count=1000)
    return [key.decode().rpartition(":")[2] for key in keys]


def _traffic(made: Cluster, rate: float) -> SteadyLoad:
    return SteadyLoad(lambda: made.caller.submit(Behaviour(**_JOB), number_of_images=2), rate)


def _blame_failures(made: Cluster, finding: Finding) -> None:
    states = {found: made.caller.status(found) for found in made.caller.accepted}
    finding.blame(*[f"{found} is {state}" for found, state in states.items() if state != "COMPLETED"])


def _sum_up(made: Cluster, load: SteadyLoad) -> str:
    codes = ", ".join(f"{count} × {code}" for code, count in load.codes().items())
    return f"{len(made.caller.accepted)} accepted, 0 lost ({codes})"


FAULTS = (
    Fault(
        "F6",
        "Redis dies",
        "redis-server killed (SIGKILL) and terminated (SIGTERM) in turn, down for up to 5 s, a third of them while a "
        "result is stored, 10 requests per second",
        "≥ 50; 0 accepted requests lost; 503 with Retry-After meanwhile; recovery p99 ≤ 10 s",
        restarted,
    ),
    Fault(
        "F7",
        "Redis is full",
        "maxmemory below its used memory (noeviction), while jobs run for longer than the heartbeat TTL",
        "submissions 503, running jobs complete, reads work",
        full_redis,
    ),
    Fault(
        "PAUSE",
        "Redis does not answer",
        "connections stay open and no data passes for 5 to 60 s, then redis-server is stopped (SIGSTOP) for as long, "
        "10 requests per second",
        "0 accepted requests lost; calls end within 5 s, /health/ready within 2 s; no process ends; calls succeed "
        "again within 10 s",
        silent,
    ),
    Fault(
        "CUT",
        "connections to Redis break",
        "all at once at random moments, with replies in flight, 20 requests per second of a metered key",
        "0 lost, 0 duplicated; credits charged = pictures generated",
        cut_off,
    ),
)
