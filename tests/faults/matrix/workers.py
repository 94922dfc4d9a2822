"""Workers that are killed, stopped, told to end, or fed with garbage."""

from __future__ import annotations

import pickle
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.behaviour import Behaviour
from tests.faults.cluster import Cluster, cluster
from tests.faults.finding import Fault, Finding, unless
from tests.faults.members import Member
from tests.faults.waiting import percentile, until

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
    return finding


def _kill_all(made: Cluster, finding: Finding, delays: list[float]) -> None:
    job = Behaviour(steps=40, step_ms=50)
    for _ in made.workers:
        made.caller.accept(Behaviour(job.steps, job.step_ms), number_of_images=2)
    ids = {label: request_id for request_id, label in made.caller.accepted.items()}
    moments = sorted((random.uniform(0.1, job.seconds * 1.1), number) for number in range(len(made.workers)))
    began, victims = time.monotonic(), list[tuple[str, float]]()
    for moment, number in moments:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        pid = made.workers[number].pid
        made.workers[number].send(signal.SIGKILL)
        victims += [(run.label, time.monotonic()) for run in made.runs.all()[-100:] if run.pid == pid][-1:]
    victims = [(label, at) for label, at in victims if made.caller.status(ids[label]) == "PROCESSING"]
    made.settled()
    for label, at in victims:
        finding.trial(_of_rerun(made, ids[label], label, at, delays))


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
    return finding


def _of_poison(made: Cluster, request_id: str, label: str, seconds: list[float]) -> str:
    runs = made.runs.of(label)
    record = made.redis.client.hgetall(f"facelight:request:{request_id}")
    seconds.append(float(record[b"finished_at"]) - float(record[b"created_at"]))
    if made.caller.status(request_id) != "FAILED" or len(runs) != 2:
        return f"{request_id} ran {len(runs)} times and is {made.caller.status(request_id)}"
    return unless(seconds[-1] <= _POISON_S, f"{request_id} failed after {seconds[-1]:.1f} s only")


def told_to_end(full: bool, finding: Finding) -> None:
    """SIGTERM to busy workers."""
    with cluster(workers=10 if full else 2, keep=False) as made:
        for _ in range(3 if full else 1):
            _end_all(made, finding)
        finding.blame(*made.audit())
    finding.figure = "each ended with status 0 after its job; those who waited were served by the next workers"
    return finding


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
    finding.figure = "the late result was thrown away each time: one end per request, no file left over"
    return finding


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


def garbage(full: bool, finding: Finding) -> None:
    """Jobs that nobody of this application has written, put before the honest ones."""
    with cluster(workers=2, keep=False) as made:
        made.caller.accept(Behaviour())
        made.settled()  # RQ knows the queue now
        for round_ in range(20 if full else 1):
            for number, put in enumerate(_GARBAGE):
                _feed(made, put, f"garbage-{round_}-{number}", finding)
        finding.blame(unless(not (made.folder / "touched").exists(), "a forged job ran code of its own"))
        finding.blame(*made.audit())
    finding.figure = f"{len(_GARBAGE)} kinds; no worker ended, nothing forged was run, honest jobs went on"
    return finding


def _feed(made: Cluster, put: Any, job: str, finding: Finding) -> None:
    workers: list[Member] = made.workers
    for queue in made.redis.client.smembers("rq:queues"):
        put(made.redis.client, queue, job, made.folder / "touched")
    honest = [made.caller.accept(Behaviour()) for _ in range(2)]
    made.settled(timeout_s=30)
    states = {made.caller.status(request_id) for request_id in honest}
    finding.trial(unless(states == {"COMPLETED"}, f"after {put.__name__} honest jobs are {states}"))
    finding.blame(*[f"{worker.name} ended after {put.__name__}" for worker in workers if not worker.alive])


def _missing(client: Any, queue: bytes, job: str, _: Path) -> None:
    client.lpush(queue, job)


def _no_text(client: Any, queue: bytes, job: str, _: Path) -> None:
    client.lpush(queue, b"\xff\xfe\x00" + job.encode())


def _wrong_type(client: Any, queue: bytes, job: str, _: Path) -> None:
    client.set(f"rq:job:{job}", "a string where a hash should be", ex=600)
    client.lpush(queue, job)


def _put_fields(client: Any, queue: bytes, job: str, **fields: Any) -> None:
    client.hset(f"rq:job:{job}", mapping={"created_at": "2026-01-01T00:00:00.000000Z", "status": "queued", **fields})
    client.expire(f"rq:job:{job}", 600)
    client.lpush(queue, job)


def _noise(client: Any, queue: bytes, job: str, _: Path) -> None:
    _put_fields(client, queue, job, data=random.randbytes(200), origin=random.randbytes(20))


def _bad_date(client: Any, queue: bytes, job: str, _: Path) -> None:
    _put_fields(client, queue, job, data="[]", created_at="yesterday", timeout="soon", status="odd")


def _pickled(client: Any, queue: bytes, job: str, target: Path) -> None:
    class Touch:
        def __reduce__(self) -> Any:
            return Path.touch, (target,)

    _put_fields(client, queue, job, data=pickle.dumps(Touch()))


def _foreign(client: Any, queue: bytes, job: str, target: Path) -> None:
    _put_fields(client, queue, job, data=f'["pathlib.Path.touch", null, ["{target}"], {{}}]')


def _no_request(client: Any, queue: bytes, job: str, _: Path) -> None:
    _put_fields(client, queue, job, data='["workers.task.run", null, [], {}]')


def _odd_request(client: Any, queue: bytes, job: str, _: Path) -> None:
    _put_fields(client, queue, job, data='["workers.task.run", null, [], {"request_id": [{"a": null}]}]')


def _unknown_request(client: Any, queue: bytes, job: str, _: Path) -> None:
    _put_fields(client, queue, job, data='["workers.task.run", null, [], {"request_id": "nobody"}]')


_GARBAGE = (
    _missing,
    _no_text,
    _wrong_type,
    _noise,
    _bad_date,
    _pickled,
    _foreign,
    _no_request,
    _odd_request,
    _unknown_request,
)

FAULTS = (
    Fault(
        "F1",
        "a worker is killed in the middle of a job",
        "SIGKILL at a random moment of the job, settings as shipped",
        "≥ 100; run again within 15 s; none lost, none doubled",
        killed,
    ),
    Fault(
        "F2",
        "a request kills every worker it meets",
        "SIGSEGV in the run, other requests before and behind it",
        "FAILED after 2 runs within 60 s; the others go on",
        poisoned,
    ),
    Fault(
        "F10",
        "a busy worker is told to end",
        "SIGTERM in the middle of a job while others wait",
        "status 0; the job completes, those who wait stay QUEUED",
        told_to_end,
    ),
    Fault(
        "STOP",
        "a worker freezes and comes back",
        "SIGSTOP in the middle of a job, SIGCONT after another worker served its request",
        "one end per request, no double result",
        stopped,
    ),
    Fault(
        "JUNK",
        "garbage stands in the queue",
        "job hashes that are missing, of other types, noise, pickles, foreign functions, odd arguments",
        "no worker ends, nothing forged runs, honest jobs go on",
        garbage,
    ),
)
