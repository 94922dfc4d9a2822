"""Probes: whether the process lives, and whether anything can be served."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, cast

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from redis import Redis
from redis.exceptions import RedisError

from models.catalog import MODELS
from server.dependencies import ReadinessThreadsDep, RecordsDep, RedisDep, RegistryDep
from server.http.drain import drain_of
from server.schemas import LiveResponse, ModelHealth, ReadyResponse
from workers.state.records import Records
from workers.state.registry import ModelReport, ModelState, WorkerRegistry, WorkerReport
from workers.state.suspension import is_suspended

router = APIRouter(prefix="/health", tags=["health"])
Weights = Literal["demo", "real", "mixed"]
Execution = Literal["eager", "compiled", "captured", "mixed"]
_TIMEOUT_S: Final = 1.0
"""Less than the timeout of any usual prober."""


@router.get("/live", operation_id="health_live")
async def live() -> LiveResponse:
    """The process answers. Depends on nothing outside it."""
    return {"status": "live"}


@router.get(
    "/ready",
    operation_id="health_ready",
    response_model=ReadyResponse,
    responses={503: {"model": ReadyResponse, "description": "Nothing can be served now."}},
)
async def ready(
    request: Request, redis: RedisDep, registry: RegistryDep, records: RecordsDep, threads: ReadinessThreadsDep
) -> JSONResponse:
    """200 once a worker has loaded its models and can serve one, with the kind of weights it has been loaded with.

    503 while nothing can be served, and from the moment this process receives SIGTERM.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            # In a pool of its own, abandoned at the timeout: the default pool's threads may all wait for Redis.
            body = await run_sync(_look, redis, registry, records, limiter=threads, abandon_on_cancel=True)
    except (RedisError, TimeoutError):
        body = readiness([])
    if drain_of(request).begun:
        body = {**body, "ready": False, "draining": True}
    return JSONResponse(body, 200 if body["ready"] else 503)


def _look(redis: Redis, registry: WorkerRegistry, records: Records) -> ReadyResponse:
    return readiness(registry.live_workers(), is_suspended(redis), {slug: records.depth(slug) for slug in MODELS})


def readiness(
    workers: Sequence[WorkerReport], paused: bool = False, waiting: Mapping[str, int] | None = None
) -> ReadyResponse:
    """What all live workers together can serve, and how many requests wait for each model."""
    models = {
        slug: _model_health(
            slug,
            [worker.effective(slug) for worker in workers if slug in worker.models],
            None if waiting is None else waiting[slug],
        )
        for slug in MODELS
    }
    return {
        "ready": any(model["ready"] for model in models.values()),
        "weights": _kind(model["weights"] for model in models.values()),
        "models": models,
        "workers": len(workers),
        "draining": False,
        "paused": paused,
    }


def _model_health(slug: str, reports: Sequence[ModelReport], waiting: int | None) -> ModelHealth:
    serving = [report for report in reports if report.state is ModelState.READY]
    if serving:
        served = {variant for report in serving for variant in report.variants}
        weights = _kind(report.weights for report in serving)
        return {
            "ready": True,
            "weights": weights,
            "note": MODELS[slug].demo_note if weights in ("demo", "mixed") else "",
            "variants": [variant for variant in MODELS[slug].params.variants if variant in served],
            "detail": f"loaded in {max(report.load_s for report in serving):.1f} s, warmed up in "
            f"{max(report.warm_up_s for report in serving):.1f} s",
            "execution": cast(
                "Execution | None", _one_of({report.execution for report in serving if report.execution})
            ),
            "fallback": "; ".join(dict.fromkeys(report.fallback for report in serving if report.fallback)),
            "waiting": waiting,
        }
    details = [report.detail or report.state.value for report in reports]
    detail = "; ".join(details) or "no worker serves this model"
    return {
        "ready": False,
        "weights": None,
        "note": "",
        "variants": [],
        "detail": detail,
        "execution": None,
        "fallback": "",
        "waiting": waiting,
    }


def _kind(weights: Iterable[str | None]) -> Weights | None:
    return cast("Weights | None", _one_of({kind for kind in weights if kind}))


def _one_of(kinds: set[str]) -> str | None:
    """The only element, `mixed` for several, None for none."""
    return min(kinds, default=None) if len(kinds) <= 1 else "mixed"
