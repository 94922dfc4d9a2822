"""What the subcommands of `facelight` have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NoReturn

import typer
from redis import Redis
from redis.exceptions import RedisError

from cli.serve import redis_url
from server.settings import GatewaySettings
from workers.errors import SettingsError
from workers.settings import Kind, read_settings
from workers.state.connection import connect

EXIT_FOUND: Final = 1
"""The command did its work and found something wrong: a damaged file, a failed check."""
EXIT_FAILED: Final = 2
"""The command could not do its work; also the status of wrong usage."""


def settings_or_exit(kind: type[Kind]) -> Kind:
    """Read settings from the environment; the command fails if they are invalid."""
    try:
        return read_settings(kind)
    except SettingsError as error:
        fail(error)


def fail(reason: object) -> NoReturn:
    """End the command with an error message and exit status 2."""
    typer.echo(f"facelight: {reason}", err=True)
    raise typer.Exit(EXIT_FAILED)


@contextmanager
def redis_or_exit(settings: GatewaySettings, hint: str = "") -> Iterator[Redis]:
    """The Redis of the server with these settings; the command fails if it cannot be used, and tells the `hint`."""
    try:
        with connect(redis_url(settings)) as redis:
            yield redis
    except RedisError as error:
        fail(f"Redis cannot be used ({error}). Is the server running? FACELIGHT_REDIS_URL names another Redis.{hint}")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines with columns of one width; the first has the headings."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def duration(seconds: float) -> str:
    """Seconds for people: `3.2 s`, `1 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
