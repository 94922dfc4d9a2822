"""The registry of live workers, and what each can serve.

A worker's heartbeat writes its report to a key of its own, which expires unless the next heartbeat comes in time. A set
holds the names of all workers, so that no scan is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final

from redis import Redis

from workers.state.connection import decode
from workers.state.scripts import load_script

_PREFIX: Final = "facelight:worker:"
_NAMES: Final = "facelight:workers"
_COUNTS: Final = "facelight:counts"


class ModelState(StrEnum):
    """State of one model in one worker."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True)
class ModelReport:
    """What a worker reports of one model.

    Its state, the kind of weights (`demo` or `real`), why it failed or how far it is, the variants of the model that it
    serves, the seconds that loading and warming up took, how its networks are executed (`eager`, `compiled` or
    `captured`), and why not in the mode that was chosen.
    """

    state: ModelState
    weights: str = ""
    detail: str = ""
    variants: tuple[str, ...] = ()
    load_s: float = field(default=0.0, compare=False)
    warm_up_s: float = field(default=0.0, compare=False)
    execution: str = ""
    fallback: str = ""


@dataclass(frozen=True)
class WorkerReport:
    """What a worker reports of itself."""

    name: str
    device: str
    models: Mapping[str, ModelReport]
    requests: tuple[str, ...] = ()
    """Ids of the requests in flight: executed, prefetched and being published."""

    def effective(self, slug: str) -> ModelReport:
        """The report on a model; LOADING until all models are loaded: the worker claims no request before."""
        loading = any(report.state is ModelState.LOADING for report in self.models.values())
        return replace(self.models[slug], state=ModelState.LOADING) if loading else self.models[slug]


class WorkerRegistry:
    """The live workers of one Redis."""

    def __init__(self, redis: Redis, ttl_s: int) -> None:
        self._redis = redis
        self.ttl_s = ttl_s
        self._heartbeat = redis.register_script(load_script("heartbeat"))
        self._reports = redis.register_script(load_script("live_workers"))
        self._forget = redis.register_script(load_script("forget_workers"))

    def heartbeat(self, report: WorkerReport) -> None:
        """Register the worker, or renew it, for the next `ttl_s` seconds."""
        self._heartbeat(
            keys=[_PREFIX + report.name, _NAMES, _COUNTS], args=[json.dumps(asdict(report)), self.ttl_s, report.name]
        )

    def deregister(self, name: str) -> None:
        """Remove a worker that ends."""
        self._redis.srem(_NAMES, name)  # first: a name without a report would count as lost
        self._redis.delete(_PREFIX + name)

    def live_workers(self) -> list[WorkerReport]:
        """Reports of all live workers, by name; names of stale ones are removed."""
        names, raws = self._reports(keys=[_NAMES], args=[_PREFIX])
        found = dict(sorted(zip(map(decode, names), raws, strict=True)))
        if stale := [name for name, raw in found.items() if raw is None]:
            # A live one comes back with its next heartbeat.
            self._forget(keys=[_NAMES, _COUNTS], args=[_PREFIX, *stale])
        return [_parse(raw) for raw in found.values() if raw is not None]


def served_variants(workers: Sequence[WorkerReport], slug: str) -> set[str] | None:
    """The variants of model `slug` that some worker serves; None if no worker serves the model at all."""
    serving = [report for worker in workers if (report := worker.models.get(slug)) and report.state is ModelState.READY]
    return {variant for report in serving for variant in report.variants} if serving else None


def _parse(raw: bytes | str) -> WorkerReport:
    """A worker of another version may report more fields, or fewer."""
    report = json.loads(raw)
    models = {slug: _parse_model(model) for slug, model in report["models"].items()}
    return WorkerReport(report["name"], report["device"], models, tuple(report["requests"]))


def _parse_model(raw: Mapping[str, Any]) -> ModelReport:
    known = {one.name: raw[one.name] for one in fields(ModelReport) if one.name in raw}
    return ModelReport(**{**known, "state": ModelState(raw["state"]), "variants": tuple(raw["variants"])})
