"""`facelight webhooks`: what was not delivered, and trying again. Works on the Redis that the server uses."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Final

import typer

from cli.console import fail, redis_or_exit, settings_or_exit
from server.settings import GatewaySettings
from workers.state.outbox import Outbox, Outstanding

app: Final = typer.Typer(help="List webhooks that were not delivered, and try again.", no_args_is_help=True)


@app.command(name="list")
def show(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List what waits for its next try, and what was given up; both are forgotten with the result."""
    with redis_or_exit(settings_or_exit(GatewaySettings)) as redis:
        found = Outbox(redis).outstanding()
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
    else:
        for one in found:
            typer.echo(_line(one))


@app.command()
def replay(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="As `facelight webhooks list` shows.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that were given up.")] = False,
) -> None:
    """Try again at once, and then as often as at first; the receiver sees the same `webhook-id`."""
    if bool(ids) == failed:
        raise typer.BadParameter("name some ids, or --failed")
    with redis_or_exit(settings_or_exit(GatewaySettings)) as redis:
        outbox = Outbox(redis)
        wanted = ids or [one.id for one in outbox.outstanding() if one.failed]
        found = outbox.replay(wanted)
    typer.echo(f"{len(found)} of {len(wanted)} are tried again.", err=True)
    if len(found) < len(wanted):
        fail("There is no such message, or no longer: " + ", ".join(set(wanted) - set(found)))


def _line(one: Outstanding) -> str:
    seconds = one.at - time.time()
    when = f"given up {-seconds:.0f} s ago" if one.failed else f"due in {max(0.0, seconds):.0f} s"
    return f"{one.id}  {when}  {one.tries} tries  {one.answer or 'not tried yet'}  {one.url}"
