"""Jobs in the queue that nobody of this application has written."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.members import Member


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
    finding.figure = f"{len(_GARBAGE)} kinds; no worker ended, no forged job was run, valid jobs completed"
    return finding


def _feed(made: Cluster, put: Any, job: str, finding: Finding) -> None:
    workers: list[Member] = made.workers
    for queue in made.redis.client.smembers("rq:queues"):
        put(made.redis.client, queue, job, made.folder / "touched")
    honest = [made.caller.accept(Behaviour()) for _ in range(2)]
    made.settled(timeout_s=30)
    states = {made.caller.status(request_id) for request_id in honest}
    finding.trial(unless(states == {"COMPLETED"}, f"after {put.__name__} honest jobs are {states}"))
    for worker in workers:
        if not worker.alive:
            finding.blame(f"{worker.name} ended after {put.__name__}")
            worker.start()


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
    _put_fields(client, queue, job, data='["workers.engine.stages.run", null, [], {}]')


def _odd_request(client: Any, queue: bytes, job: str, _: Path) -> None:
    _put_fields(client, queue, job, data='["workers.engine.stages.run", null, [], {"request_id": [{"a": null}]}]')


def _unknown_request(client: Any, queue: bytes, job: str, _: Path) -> None:
    _put_fields(client, queue, job, data='["workers.engine.stages.run", null, [], {"request_id": "nobody"}]')


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
        "JUNK",
        "the queue holds malformed jobs",
        "job hashes that are missing, of other types, noise, pickles, foreign functions, odd arguments",
        "no worker ends, no forged job runs, valid jobs complete",
        garbage,
    ),
)
