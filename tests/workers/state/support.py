"""Shorthands for tests that act as a worker on the request records."""

from __future__ import annotations

from typing import cast

from redis import Redis

from workers.state.record import Output, Record, Result
from workers.state.records import Records
from workers.state.registry import WorkerRegistry
from workers.state.scripts import new_call_id

FOREIGN_WAKEUP = b"none"
"""A wakeup that is in no queue: whoever presents it claims a request and leaves every queued wakeup in place."""


def claim(records: Records, slug: str, variant: str, worker: str) -> Record | None:
    """Claim the next request of a queue alone, whatever its wakeups; None if the queue is empty."""
    claimed = records.claim_batch([(slug, variant)], worker, new_call_id(), wakeup=FOREIGN_WAKEUP)
    return claimed[0] if claimed else None


def complete(records: Records, record: Record, outputs: tuple[Output, ...], inference_time: float) -> bool:
    """Complete one request; False if it was cancelled or belongs to another attempt by now."""
    return records.complete([Result(record, outputs, inference_time)])[0]


def unfinished(redis: Redis) -> list[str]:
    """Ids of all requests that are neither COMPLETED nor FAILED, oldest first; some may have expired."""
    return [member.decode() for member in cast("list[bytes]", redis.zrange("facelight:open", 0, -1))]


def is_alive(registry: WorkerRegistry, name: str) -> bool:
    """Whether a worker's heartbeat has not expired."""
    return any(worker.name == name for worker in registry.live_workers())


def wakeups_key(slug: str, variant: str) -> str:
    """The list of a queue's wakeups."""
    return f"rq:queue:facelight-{slug}-{variant}"
