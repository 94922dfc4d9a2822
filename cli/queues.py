"""`facelight queue`: list and cancel requests, pause, resume and drain."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from redis import Redis

from cli.console import EXIT_FOUND, duration, fail, redis_or_exit, settings_or_exit, table
from models.catalog import MODELS
from server.auth import ANYONE
from server.requests import cancel_request
from server.settings import GatewaySettings
from workers.errors import OtherVersion
from workers.state.connection import SharedClock
from workers.state.keys import Keys
from workers.state.listing import ListedRequest, Listing
from workers.state.record import Record, Status
from workers.state.records import Records
from workers.state.suspension import is_suspended, resume, suspend
from workers.store.open import open_store

app: Final = typer.Typer(help="List and cancel requests; pause, resume and drain the queues.", no_args_is_help=True)
_HEADERS: Final = ("ID", "MODEL", "VARIANT", "STATE", "AGE", "KEY", "ATTEMPT", "STEP")
_DRAIN_PAUSE_S: Final = 0.5


def _slug(slug: str | None) -> str | None:
    if slug is not None and slug not in MODELS:
        raise typer.BadParameter(f"there is no model {slug!r}; there are {', '.join(MODELS)}")
    return slug


_Model = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", callback=_slug, autocompletion=lambda: list(MODELS), help="Of it alone."),
]


@app.command(name="list")
def show(model: _Model = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the requests that run, and those that wait; each in the order in which they were accepted.

    That is not the order in which they are served: API keys take turns.
    """
    settings = settings_or_exit(GatewaySettings)
    with redis_or_exit(settings) as redis:
        requests, now = _unfinished(redis, model), _records(redis, settings).now()
        names = {key.id: key.name for key in Keys(redis).all()}
    requests.sort(key=lambda request: request.status is Status.QUEUED)  # stable
    if as_json:
        typer.echo(json.dumps([_as_dict(request, names, now) for request in requests], indent=2))
    elif requests:
        typer.echo(table([_HEADERS, *(_row(request, names, now) for request in requests)]))
    else:
        typer.echo("No request waits or runs.")


@app.command()
def cancel(
    request_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...")] = None,
    model: _Model = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before all of a model are cancelled.")] = False,
) -> None:
    """Cancel requests by their ids, or all of a model with --model. Credits are given back.

    One that waits ends at once, one that runs within a denoise step. Exit status 1 if there is no request of an id.
    """
    if (model is None) == (not request_ids):
        raise typer.BadParameter("name ids, or a model with --model")
    settings = settings_or_exit(GatewaySettings)
    with redis_or_exit(settings) as redis:
        records = _records(redis, settings)
        store = open_store(settings.store_location, SharedClock(records.now))
        ids = request_ids or [request.request_id for request in _unfinished(redis, model)]
        if model is not None and ids and not yes:
            typer.confirm(f"Cancel {len(ids)} requests of {model}?", abort=True, err=True)
        missing = 0
        for request_id in ids:
            try:
                record = cancel_request(records, store, request_id)
            except OtherVersion:
                typer.echo(f"{request_id}: cancelled; its record is of another version of facelight")
                continue
            missing += record is None
            typer.echo(f"{request_id}: {_outcome(record)}")
    raise typer.Exit(EXIT_FOUND if missing else 0)


@app.command()
def pause(
    seconds: Annotated[
        int | None, typer.Option("--for", min=1, metavar="SECONDS", help="Resume by itself then.")
    ] = None,
) -> None:
    """Have no worker take another request: what runs is finished, and callers may go on to submit.

    Holds for all workers of this Redis, as `rq suspend` does.
    """
    with redis_or_exit(settings_or_exit(GatewaySettings)) as redis:
        suspend(redis, seconds)
    until = "" if seconds is None else f" for {seconds} s, or"
    typer.echo(f"Paused{until} until `facelight queue resume`.")


@app.command(name="resume")
def resume_command() -> None:
    """Have the workers take requests again; they begin within a second."""
    with redis_or_exit(settings_or_exit(GatewaySettings)) as redis:
        was_paused = resume(redis)
    typer.echo("Resumed." if was_paused else "It was not paused.")


@app.command()
def drain(
    model: _Model = None,
    running_only: Annotated[bool, typer.Option("--running", help="Wait for what runs alone: after `pause`.")] = False,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Give up after so long.")] = 600,
) -> None:
    """Wait until no request waits or runs; exit status 1 if that takes too long.

    Nothing is refused meanwhile: to keep callers from submitting more, stop the gateways or close the way to them.
    """
    settings = settings_or_exit(GatewaySettings)
    deadline, told = time.monotonic() + timeout, None
    with redis_or_exit(settings) as redis:
        records, listing = _records(redis, settings), Listing(redis)
        slugs = list(MODELS) if model is None else [model]
        while True:
            waiting = 0 if running_only else sum(map(records.depth, slugs))
            running = sum(request.slug in slugs for request in listing.find(records.running()))
            if not waiting + running:
                typer.echo("No request runs." if running_only else "No request waits or runs.")
                return
            if waiting and is_suspended(redis):
                fail(
                    "the workers are paused, so what waits would wait for ever. `facelight queue resume` has them go "
                    "on; --running waits for what runs alone."
                )
            if time.monotonic() >= deadline:
                typer.echo(f"After {timeout:g} s {waiting} wait and {running} run.", err=True)
                raise typer.Exit(EXIT_FOUND)
            if told != (waiting, running):
                typer.echo(f"{waiting} wait, {running} run", err=True)
                told = waiting, running
            time.sleep(min(_DRAIN_PAUSE_S, max(0.0, deadline - time.monotonic())))


def _records(redis: Redis, settings: GatewaySettings) -> Records:
    return Records(redis, settings.result_ttl_s, settings.request_ttl_s)


def _unfinished(redis: Redis, slug: str | None) -> list[ListedRequest]:
    return [request for request in Listing(redis).unfinished() if slug in (None, request.slug)]


def _outcome(record: Record | None) -> str:
    if record is None:
        return "there is no such request, or no longer"
    if record.status is Status.PROCESSING:
        return "a worker has it, and ends it within a step"
    return f"FAILED: {record.error}" if record.status is Status.FAILED else "had been COMPLETED"


def _key_name(owner: str, names: dict[str, str]) -> str:
    """The name of an issued key; its id if it was revoked; the owner id of a key of the settings."""
    return "" if owner == ANYONE else names.get(owner, owner)


def _as_dict(request: ListedRequest, names: dict[str, str], now: float) -> dict[str, Any]:
    own = {name: value for name, value in asdict(request).items() if name not in ("owner", "slug")}
    return {
        **own,
        "model": request.slug,
        "key": _key_name(request.owner, names),
        "age_s": round(max(0.0, now - request.created_at), 3),
        "seconds_in_state": round(request.seconds(now), 3),
    }


def _row(request: ListedRequest, names: dict[str, str], now: float) -> Sequence[str]:
    state = "waiting" if request.status is Status.QUEUED else "cancelling" if request.cancel_requested else "running"
    step = f"{request.step}/{request.total}" if request.total else "-"
    key = _key_name(request.owner, names) or "-"
    age = duration(max(0.0, now - request.created_at))
    return request.request_id, request.slug, request.variant, state, age, key, str(request.attempt), step
