"""`facelight keys`: issue, list, change and revoke API keys. Works on the Redis that the server uses."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Final, NoReturn

import typer
from redis import Redis

from cli.console import fail, redis_or_exit, settings_or_exit, table
from models.catalog import MODELS
from server.settings import GatewaySettings
from workers.errors import KeyRefused
from workers.state.keys import Changes, Key, Keys
from workers.state.webhook_secrets import WebhookSecrets

app: Final = typer.Typer(help="Issue, list, change and revoke API keys.", no_args_is_help=True)
_HEADERS: Final = ("ID", "NAME", "MODELS", "PER MINUTE", "CREDITS", "CREATED", "LAST USED", "WEBHOOK")
_MAX_NAME_LENGTH: Final = 64
_MAX_CREDITS: Final = 1e15
_SHOWN_ONCE: Final = "This is the only time it is shown; the server keeps a digest of it."

_ID_PATTERN: Final = re.compile(r"key_[0-9a-f]{16}")

_Id = Annotated[str, typer.Argument(metavar="ID|NAME", help="As `facelight keys list` shows it.")]
_Scopes = Annotated[list[str] | None, typer.Option("--scope", metavar="MODEL", help="May be repeated; `all` for all.")]
_Rate = Annotated[str | None, typer.Option("--rate", metavar="N", help="Requests per minute; `none` for no limit.")]
_Credits = Annotated[str | None, typer.Option("--credits", metavar="X", help="Credits to spend; `none` not to meter.")]
_Webhook = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="URL that is told when a request of the key has ended, unless that names another; `none`."
    ),
]
_CreditChange = Annotated[
    str | None, typer.Option("--credits", metavar="X", help="Credits to spend; `+X` adds, `none` ends metering.")
]


@app.command()
def add(
    name: str, scope: _Scopes = None, rate: _Rate = None, credits: _Credits = None, webhook: _Webhook = None
) -> None:
    """Issue a key for NAME, which no other key may have.

    Its secret goes to standard output, once, and everything else to standard error.
    """
    name = _normalize(name)
    if not name.isprintable() or not 0 < len(name) <= _MAX_NAME_LENGTH:
        raise typer.BadParameter(f"a name has 1 to {_MAX_NAME_LENGTH} printable characters")
    if _ID_PATTERN.fullmatch(name):
        raise typer.BadParameter("a name may not look like the id of a key")
    changes = _changes(scope, rate, credits, webhook)
    settings = settings_or_exit(GatewaySettings)
    with _keys(settings) as keys:
        key, secret = keys.add(name, **changes)
    typer.echo(f"Key {key.id} for {name}. {_SHOWN_ONCE}", err=True)
    typer.echo(secret)
    if not settings.asks_for_key:
        typer.echo("The server asks for no key until FACELIGHT_REQUIRE_KEY=true is set.", err=True)


@app.command(name="list")
def show(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List all keys, oldest first, with what they may do and when they were last used."""
    with _keys(settings_or_exit(GatewaySettings)) as keys:
        found = keys.all()
    typer.echo(json.dumps([_as_dict(key) for key in found], indent=2) if as_json else _table(found))


@app.command()
def revoke(key: _Id) -> None:
    """Make a key invalid at once and for good. Requests that it has sent are completed."""
    with _keys(settings_or_exit(GatewaySettings)) as keys:
        revoked = keys.revoke(_normalize(key)) or _unknown(key)
    typer.echo(f"Key {revoked} is revoked.", err=True)


@app.command()
def rotate(key: _Id) -> None:
    """Give a key a new secret; the old one is invalid at once. Its requests, limits and credits stay."""
    with _keys(settings_or_exit(GatewaySettings)) as keys:
        secret = keys.rotate(_normalize(key)) or _unknown(key)
    typer.echo(f"New secret of {key}. {_SHOWN_ONCE}", err=True)
    typer.echo(secret)


@app.command(name="set")
def change(
    key: _Id, scope: _Scopes = None, rate: _Rate = None, credits: _CreditChange = None, webhook: _Webhook = None
) -> None:
    """Change what a key may do; what is not named stays as it is."""
    added = _credits(credits[1:]) if credits and credits.startswith("+") else None
    changes = _changes(scope, rate, None if added is not None else credits, webhook)
    with _keys(settings_or_exit(GatewaySettings)) as keys:
        changed = keys.change(_normalize(key), changes, added) or _unknown(key)
    typer.echo(_table([changed]))


@app.command()
def webhook_secret(
    key: Annotated[
        str | None, typer.Argument(metavar="[ID|NAME]", help="Without it: of callers without an issued key.")
    ] = None,
    rotate: Annotated[bool, typer.Option(help="Sign with a new secret as well, the older one goes on.")] = False,
    retire: Annotated[bool, typer.Option(help="Sign with the newest secret alone.")] = False,
) -> None:
    """Show the secret that webhooks are signed with: two, the newer first, while it is rotated.

    To rotate: `--rotate`, teach the receivers the new secret, `--retire`.
    """
    if rotate and retire:
        raise typer.BadParameter("first --rotate, and --retire when all receivers know the new secret")
    with _redis(settings_or_exit(GatewaySettings)) as redis:
        key_id = None if key is None else Keys(redis).id_of(_normalize(key)) or _unknown(key)
        secrets = WebhookSecrets(redis)
        act = secrets.rotate if rotate else secrets.retire if retire else secrets.get
        for secret in act(key_id):
            typer.echo(secret)


@contextmanager
def _keys(settings: GatewaySettings) -> Iterator[Keys]:
    """The key store; the command fails if a change is refused or Redis cannot be reached."""
    with _redis(settings) as redis:
        yield Keys(redis)


@contextmanager
def _redis(settings: GatewaySettings) -> Iterator[Redis]:
    lost = (
        " If it was lost in the middle, a change may have been made: look at `facelight keys list` before you repeat"
        " it."
    )
    try:
        with redis_or_exit(settings, lost) as redis:
            yield redis
    except KeyRefused as error:
        fail(error)


def _normalize(name: str) -> str:
    """Stripped and in Unicode normalization form C, so that names that look the same are the same."""
    return unicodedata.normalize("NFC", name).strip()


def _unknown(key: str) -> NoReturn:
    fail(f"There is no key {key}.")


def _changes(scopes: Sequence[str] | None, rate: str | None, credits: str | None, webhook: str | None) -> Changes:
    changes: Changes = {}
    if scopes:
        changes["scopes"] = _scopes(scopes)
    if rate is not None:
        changes["rate"] = _rate(rate)
    if credits is not None:
        changes["credits"] = _credits(credits)
    if webhook is not None:
        changes["webhook"] = _webhook(webhook)
    return changes


def _webhook(url: str) -> str | None:
    if url == "none":
        return None
    if not url.lower().startswith(("http://", "https://")):
        raise typer.BadParameter("a webhook is an http(s) URL, or `none`")
    return url


def _scopes(slugs: Sequence[str]) -> Sequence[str]:
    if unknown := [slug for slug in slugs if slug not in (*MODELS, "all")]:
        raise typer.BadParameter(f"there is no model {unknown[0]!r}; there are {', '.join(MODELS)}")
    return () if "all" in slugs else slugs


def _rate(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or not int(text):
        raise typer.BadParameter("a rate is a whole number above 0, or `none`")
    return int(text)


def _credits(text: str) -> float | None:
    if text == "none":
        return None
    try:
        credits = float(text)
    except ValueError:
        credits = math.nan
    if not 0 <= credits <= _MAX_CREDITS:
        raise typer.BadParameter(f"credits are a number from 0 to {_MAX_CREDITS:g}, or `none`")
    return credits


def _as_dict(key: Key) -> dict[str, object]:
    return {**asdict(key), "created_at": _date(key.created_at), "last_used": _date(key.last_used)}


def _table(keys: Sequence[Key]) -> str:
    return table([_HEADERS, *map(_row, keys)])


def _row(key: Key) -> tuple[str, ...]:
    rate = "no limit" if key.rate is None else str(key.rate)
    credits = "not metered" if key.credits is None else f"{key.credits:.12g}"
    times = _date(key.created_at) or "", _date(key.last_used) or "never"
    return key.id, key.name, ", ".join(key.scopes) or "all", rate, credits, *times, key.webhook or "none"


def _date(seconds: float | None) -> str | None:
    """ISO 8601, in UTC, to the second."""
    return None if seconds is None else f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"
