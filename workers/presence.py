"""Which workers are alive, and what they can serve.

A worker writes one key that expires by itself unless it is written again. Nobody else ever writes it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from redis import Redis

_PREFIX: Final = "facelight:worker:"


class ModelState(StrEnum):
    """How far a worker is with one model."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True)
class ModelReport:
    """What a worker says of one model.

    Its state, the kind of weights (`demo` or `real`), why it failed, and the extensions of the hosted API that its
    weights can serve.
    """

    state: ModelState
    weights: str = ""
    detail: str = ""
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkerReport:
    """What a worker says of itself."""

    name: str
    device: str
    models: Mapping[str, ModelReport]


class Presence:
    """The living workers of one Redis."""

    def __init__(self, redis: Redis, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s

    def announce(self, report: WorkerReport) -> None:
        """Say that the worker lives, for the next `ttl_s` seconds."""
        self._redis.set(_PREFIX + report.name, json.dumps(asdict(report)), ex=self._ttl_s)

    def leave(self, name: str) -> None:
        """Say that the worker has ended."""
        self._redis.delete(_PREFIX + name)

    def is_alive(self, name: str) -> bool:
        """Whether the worker of that name has announced itself lately."""
        return bool(self._redis.exists(_PREFIX + name))

    def workers(self) -> list[WorkerReport]:
        """Reports of all living workers, by name."""
        keys = sorted(self._redis.scan_iter(match=f"{_PREFIX}*"))
        return [_parse(raw) for raw in (self._redis.mget(keys) if keys else []) if raw]


def lacking(workers: Sequence[WorkerReport], slug: str, wanted: Collection[str]) -> set[str]:
    """Which of the `wanted` extensions of model `slug` none of the workers that serve it can serve.

    None is lacking while no worker serves the model: what the next one can do is not known.
    """
    serving = [report for worker in workers if (report := worker.models.get(slug)) and report.state is ModelState.READY]
    return set(wanted).difference(*(report.extensions for report in serving)) if serving else set()


def _parse(raw: bytes | str) -> WorkerReport:
    report = json.loads(raw)
    models = {
        slug: ModelReport(ModelState(model["state"]), model["weights"], model["detail"], tuple(model["extensions"]))
        for slug, model in report["models"].items()
    }
    return WorkerReport(report["name"], report["device"], models)
