"""`facelight status`: the queues, the workers and what they hold, from Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from redis import Redis

from cli.console import duration, redis_or_exit, settings_or_exit, table
from models.catalog import MODELS
from server.settings import GatewaySettings
from workers.state.listing import ListedRequest, Listing
from workers.state.records import Records
from workers.state.registry import ModelReport, WorkerRegistry, WorkerReport
from workers.state.statistics import Statistics, StatisticsReader

_CLEAR: Final = "\x1b[H\x1b[2J"
"""Cursor home, and erase the screen."""
_PAUSED: Final = "PAUSED: workers claim nothing until `facelight queue resume`."


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="Pause of --watch.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON; with --watch one line each time.")] = False,
) -> None:
    """Show what waits and runs, and the workers: their state, how they execute, what they hold."""
    settings = settings_or_exit(GatewaySettings)
    with redis_or_exit(settings) as redis:
        while True:
            found = read_status(redis, settings)
            if as_json:
                typer.echo(json.dumps(found, indent=None if watch else 2))
            else:
                typer.echo((_CLEAR if watch else "") + "\n".join(_lines(found)))
            if not watch:
                return
            time.sleep(every)


def read_status(redis: Redis, settings: GatewaySettings) -> dict[str, Any]:
    """What the command shows, for JSON. Durations are in seconds."""
    statistics, listing = StatisticsReader(redis).read(), Listing(redis)
    records = Records(redis, settings.result_ttl_s, settings.request_ttl_s)
    now, held = records.now(), {request.request_id: request for request in listing.find(records.running())}
    return {
        "paused": statistics.paused,
        "models": {slug: _queue(statistics, slug) for slug in MODELS},
        "workers": [
            _worker(report, held, now) for report in WorkerRegistry(redis, settings.heartbeat_ttl_s).live_workers()
        ],
    }


def _queue(statistics: Statistics, slug: str) -> dict[str, Any]:
    waiting = {variant: statistics.waiting[slug, variant] for variant in MODELS[slug].params.variants}
    oldest_s = max(statistics.oldest_s[slug, variant] for variant in waiting)
    return {
        "waiting": sum(waiting.values()),
        "variants": waiting,
        "oldest_waiting_s": round(oldest_s, 3) if any(waiting.values()) else None,
        "running": statistics.running.get(slug, 0),
    }


def _worker(report: WorkerReport, held: Mapping[str, ListedRequest], now: float) -> dict[str, Any]:
    return {
        "name": report.name,
        "device": report.device,
        "models": {slug: _model(model) for slug, model in report.models.items()},
        "requests": [_held(held[request_id], now) for request_id in report.requests if request_id in held],
    }


def _model(report: ModelReport) -> dict[str, Any]:
    return {
        "state": report.state.value,
        "detail": report.detail,
        "weights": report.weights,
        "variants": list(report.variants),
        "execution": report.execution,
        "fallback": report.fallback,
    }


def _held(request: ListedRequest, now: float) -> dict[str, Any]:
    return {
        "request_id": request.request_id,
        "model": request.slug,
        "seconds": round(request.seconds(now), 3),
        "step": request.step,
        "total": request.total,
        "attempt": request.attempt,
    }


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    if found["paused"]:
        yield from (_PAUSED, "")
    yield table([("MODEL", "WAITING", "OLDEST", "RUNNING"), *map(_model_row, found["models"].items())])
    yield ""
    if not found["workers"]:
        yield "No worker is alive."
        return
    rows = [row for worker in found["workers"] for row in _worker_rows(worker)]
    yield table([("WORKER", "DEVICE", "MODEL", "STATE", "EXECUTION", "WEIGHTS", "HOLDS"), *rows])
    for worker in found["workers"]:
        yield from _notes(worker)


def _model_row(item: tuple[str, Mapping[str, Any]]) -> tuple[str, ...]:
    slug, model = item
    oldest = model["oldest_waiting_s"]
    return slug, str(model["waiting"]), "-" if oldest is None else duration(oldest), str(model["running"])


def _worker_rows(worker: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    first = worker["name"], worker["device"]
    for slug, model in worker["models"].items():
        held = sum(request["model"] == slug for request in worker["requests"])
        yield *first, slug, model["state"], model["execution"] or "-", model["weights"] or "-", str(held)
        first = "", ""


def _notes(worker: Mapping[str, Any]) -> Iterator[str]:
    """What does not fit into a table: causes, and single requests."""
    for slug, model in worker["models"].items():
        for what in ("detail", "fallback"):
            if model[what]:
                yield f"{worker['name']}: {slug}: {'falls back: ' if what == 'fallback' else ''}{model[what]}"
    for request in worker["requests"]:
        at = f"step {request['step']} of {request['total']}" if request["total"] else "before its first step"
        again = f", attempt {request['attempt']}" if request["attempt"] > 1 else ""
        held_for = duration(request["seconds"])
        yield f"{worker['name']}: {request['request_id']} ({request['model']}) for {held_for}, {at}{again}"
