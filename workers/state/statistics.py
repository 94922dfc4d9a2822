"""What Redis knows of all requests and workers together: read for every scrape, in one round trip.

The hash `facelight:counts` holds what happened so far. It is changed in the same step as what it counts, so it is exact
for any number of processes, outlives them, and has no expiry:

| Field | What it holds | Changed by |
| --- | --- | --- |
| `<slug>:accepted` | requests that were enqueued | `create.lua` |
| `<slug>:<state>:<reason>` | requests that ended | `finish` in `common.lua` |
| `<slug>:requeued` | requests whose worker died, and that were tried again | `requeue.lua` |
| `<slug>:charged`, `<slug>:refunded` | credits of metered keys | `create.lua`, `finish` |
| `<slug>:device_s:<variant>` | running mean of the device's time per request, in seconds | `finish.lua` |
| `worker:started`, `worker:lost` | workers that announced themselves, and that ended without a word | `registry.py` |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from models.catalog import MODELS
from workers.state.connection import decode
from workers.state.record import QueueKey
from workers.state.scripts import load_script


@dataclass(frozen=True)
class Statistics:
    """The queues as they are, and what happened so far."""

    waiting: Mapping[QueueKey, int]
    """Requests that are QUEUED."""
    oldest_s: Mapping[QueueKey, float]
    """For how long the oldest of them has waited since it was accepted; 0 if none waits."""
    running: Mapping[str, int]
    """Requests that are PROCESSING, by slug."""
    paused: bool
    """Whether workers were told to claim nothing (`rq suspend`)."""
    counts: Mapping[str, float]
    """The hash of counts, by field; those that were never counted are missing."""

    def count(self, *field: str) -> float:
        """One of the counts; 0 if there was nothing yet."""
        return self.counts.get(":".join(field), 0.0)


class StatisticsReader:
    """Reads the statistics of one Redis, for all models of the catalog."""

    def __init__(self, redis: Redis) -> None:
        self._read = redis.register_script(load_script("statistics"))
        self._queues: Sequence[QueueKey] = [
            (slug, variant) for slug, model in MODELS.items() for variant in model.params.variants
        ]

    def read(self) -> Statistics:
        """The statistics now. Raises `RedisError`."""
        now, paused, queues, running, counts = self._read(args=[word for queue in self._queues for word in queue])
        lengths: dict[QueueKey, int] = {}
        oldest: dict[QueueKey, float] = {}
        for queue, (length, accepted_at) in zip(self._queues, _pairs(queues), strict=True):
            lengths[queue] = int(length)
            oldest[queue] = max(0.0, float(now) - float(accepted_at)) if accepted_at else 0.0
        return Statistics(
            waiting=lengths,
            oldest_s=oldest,
            running=Counter(map(decode, running)),
            paused=bool(paused),
            counts={decode(field): float(value) for field, value in _pairs(counts)},
        )


def _pairs(items: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2], strict=True))
