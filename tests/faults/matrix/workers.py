"""Workers that are killed, stopped, or told to end."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from typing import Any

from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.members import Member
from tests.faults.processes.waiting import percentile, until

_RERUN_S = 15.0
_POISON_S = 60.0
_HASTY = {"heartbeat_ttl_s": 2, "janitor_interval_s": 0.5}
"""For the short trials: the dead are found sooner than with the settings as shipped."""


def killed(full: bool, finding: Finding) -> None:
    """SIGKILL at a random moment of the job, many workers at a time."""
    delays = list[float]()
    with cluster(workers=10 if full else 3, **({} if full else _HASTY)) as made:
        while finding.trials < (100 if full else 3):
            _kill_all(made, finding, delays)
        finding.blame(*made.audit())
    finding.figure = f"re-run starts after {percentile(delays, 0.5):.1f} s (p50), {max(delays):.1f} s (max)"


def _kill_all(made: Cluster, finding: Finding, delays: list[float]) -> None:
    """Kill each worker once; a trial is what met one between the beginning of a job and the end of its record."""
    until(lambda: all(worker.alive for worker in made.workers), "the workers to be back")
    job = Behaviour(steps=40, step_ms=50)
    for _ in made.workers:
        made.caller.accept(Behaviour(job.steps, job.step_ms), number_of_images=2)
    moments = sorted((random.uniform(0.1, job.seconds * 1.1), number) for number in range(len(made.workers)))
    began, victims = time.monotonic(), list[tuple[str, str, float]]()
    for moment, number in moments:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        victims += _kill(made, made.workers[number])
    made.settled()
    for request_id, label, at in victims:
        finding.trial(_of_rerun(made, request_id, label, at, delays))


def _kill(made: Cluster, worker: Member) -> list[tuple[str, str, float]]:
    """Kill one; returns id and label of the request that it was at, if any, and when that was."""
    pid = worker.pid
    worker.send(signal.SIGKILL)
    at = time.monotonic()
    ids = {label: request_id for request_id, label in made.caller.accepted.items()}
    last = [ids[run.label] for run in made.runs.all() if run.pid == pid][-1:]
    return [(found, made.caller.accepted[found], at) for found in last if made.caller.status(found) == "PROCESSING"]


def _of_rerun(made: Cluster, request_id: str, label: str, killed_at: float, delays: list[float]) -> str:
    runs = made.runs.of(label)
    if len(runs) != 2 or made.caller.status(request_id) != "COMPLETED":
        return f"{request_id} ran {len(runs)} times and is {made.caller.status(request_id)}"
    delays.append(runs[1].began - killed_at)
    if delays[-1] > _RERUN_S:
        return f"{request_id} was run again after {delays[-1]:.1f} s only"
    return unless(runs[0].seed == runs[1].seed, f"{request_id} was run again with another seed")


def poisoned(full: bool, finding: Finding) -> None:
    """Requests that crash every worker they meet, among others that do not."""
    seconds = list[float]()
    with cluster(workers=4 if full else 2, **({} if full else _HASTY)) as made:
        poisons = [Behaviour(steps=2, step_ms=50, ending="segfault") for _ in range(10 if full else 1)]
        ids = {}
        for poison in poisons:
            ids[poison.label] = made.caller.accept(poison)
            for _ in range(5):
                made.caller.accept(Behaviour(steps=2, step_ms=50))
        made.settled(timeout_s=300)
        for poison in poisons:
            finding.trial(_of_poison(made, ids[poison.label], poison.label, seconds))
        statuses = {made.caller.status(found) for found in made.caller.accepted if found not in ids.values()}
        finding.blame(unless(statuses == {"COMPLETED"}, f"the others are {statuses}"))
        finding.blame(*made.audit())
    finding.figure = f"FAILED {max(seconds, default=0):.1f} s after its submission at the latest; the others completed"


def _of_poison(made: Cluster, request_id: str, label: str, seconds: list[float]) -> str:
    runs = made.runs.of(label)
    record = made.redis.client.hgetall(f"facelight:request:{request_id}")
    seconds.append(float(record[b"finished_at"]) - float(record[b"created_at"]))
    # In hand beside another one it may have lost an attempt without a run of its own.
    if made.caller.status(request_id) != "FAILED" or not 1 <= len(runs) <= 2:
        return f"{request_id} ran {len(runs)} times and is {made.caller.status(request_id)}"
    return unless(seconds[-1] <= _POISON_S, f"{request_id} failed after {seconds[-1]:.1f} s only")


def terminated(full: bool, finding: Finding) -> None:
    """SIGTERM to busy workers."""
    with cluster(workers=10 if full else 2, keep=False) as made:
        for _ in range(3 if full else 1):
            _end_all(made, finding)
        finding.blame(*made.audit())
    finding.figure = "each ended with status 0 after its job; queued requests were completed by the next workers"


def _end_all(made: Cluster, finding: Finding) -> None:
    running = _occupy(made, Behaviour(steps=20, step_ms=100))
    waiting = [made.caller.accept(Behaviour()) for _ in made.workers]
    for worker in made.workers:
        worker.send(signal.SIGTERM)
    statuses = [worker.wait() for worker in made.workers]
    for status, (request_id, label) in zip(statuses, running.items(), strict=True):
        runs, state = made.runs.of(label), made.caller.status(request_id)
        finding.trial(unless(status == 0, f"a worker ended with {status}"))
        finding.blame(unless((len(runs), state) == (1, "COMPLETED"), f"{request_id}: {len(runs)} runs, {state}"))
    states = {made.caller.status(request_id) for request_id in waiting}
    finding.blame(unless(states == {"QUEUED"}, f"those who waited are {states}"))
    for worker in made.workers:
        worker.start()
    made.settled()


def stopped(full: bool, finding: Finding) -> None:
    """SIGSTOP in the middle of a job, SIGCONT after its request was given to another worker."""
    with cluster(workers=8 if full else 2, keep=False, **({} if full else _HASTY)) as made:
        for _ in range(5 if full else 1):
            _stop_half(made, finding)
        finding.blame(*made.audit(), *_leftovers(made))
        finding.blame(*[f"{worker.name} ended" for worker in made.workers if not worker.alive])
    finding.figure = "the late result was discarded each time: one completion per request, no file left over"


def _stop_half(made: Cluster, finding: Finding) -> None:
    jobs = _occupy(made, Behaviour(steps=30, step_ms=100), count=len(made.workers) // 2)
    frozen = [worker for worker in made.workers if made.runs.under_way(worker.pid)]
    for worker in frozen:
        worker.send(signal.SIGSTOP)
    made.settled()
    for worker in frozen:
        worker.send(signal.SIGCONT)
    until(lambda: not any(made.runs.under_way(worker.pid) for worker in frozen), "the late results")
    time.sleep(1.0)  # what a worker does with a late result, it does at once
    for request_id, label in jobs.items():
        runs, state = made.runs.of(label), made.caller.status(request_id)
        finding.trial(unless((len(runs), state) == (2, "COMPLETED"), f"{request_id}: {len(runs)} runs, {state}"))


def _leftovers(made: Cluster) -> Iterator[str]:
    """Pictures in the store that no request shows."""
    shown = {name for found in made.caller.accepted for name in _names(made.caller.result(found))}
    for path in (made.data_dir / "store").rglob("*.png"):
        if path.name not in shown:
            yield f"the file {path.name} belongs to no request"


def _names(result: dict[str, Any]) -> list[str]:
    return [image["file_name"] for image in result.get("images", ())]


def _occupy(made: Cluster, job: Behaviour, count: int | None = None) -> dict[str, str]:
    """Give so many workers (all) a job each and wait until all of them have begun; returns labels by id."""
    jobs = [Behaviour(job.steps, job.step_ms) for _ in range(count or len(made.workers))]
    ids = {made.caller.accept(behaviour): behaviour.label for behaviour in jobs}
    until(lambda: all(made.runs.count(label) for label in ids.values()), "the jobs to begin")
    return ids


FAULTS = (
    Fault(
        "F1",
        "a worker is killed in the middle of a job",
        "SIGKILL at a random moment of the job, settings as shipped",
        "≥ 100; retried within 15 s; none lost, none duplicated",
        killed,
    ),
    Fault(
        "F2",
        "a request kills every worker that claims it",
        "SIGSEGV in the run, other requests queued before and after it",
        "FAILED after at most 2 attempts, within 60 s; the others complete",
        poisoned,
    ),
    Fault(
        "F10",
        "a busy worker is terminated",
        "SIGTERM in the middle of a job while other requests are queued",
        "exit status 0; the job completes, queued requests stay QUEUED",
        terminated,
    ),
    Fault(
        "STOP",
        "a worker is suspended and resumed",
        "SIGSTOP in the middle of a job, SIGCONT after another worker completed its request",
        "one completion per request, no duplicate result",
        stopped,
    ),
)
