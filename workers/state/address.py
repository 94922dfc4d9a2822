"""What FACELIGHT_REDIS_URL means: one Redis, or the master that Sentinels name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.connection import parse_url as _parse_url

_SENTINEL_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_FORM: Final = "redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DATABASE][?sentinel_password=…]"
_SENTINEL_PORT: Final = 26379
_OWN: Final = ("replicas", "sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class SentinelAddress:
    """A master, by the Sentinels that know it."""

    sentinels: tuple[tuple[str, int], ...]
    """Hosts and ports."""
    service: str
    """The name of the master in the Sentinels' configuration."""
    replicas: int
    """How many replicas must hold a change before it is acknowledged."""
    is_tls: bool
    options: Mapping[str, Any]
    """redis-py's options of a connection to the master: user, password, database, certificates."""
    sentinel_options: Mapping[str, Any]
    """Those of a connection to a Sentinel."""


def parse_address(url: str) -> SentinelAddress | None:
    """The Sentinels of a `redis+sentinel://` or `rediss+sentinel://` URL; None for the URL of one Redis.

    Raises ValueError, with a message for the operator that has no password in it.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in (*_SENTINEL_SCHEMES, "redis", "rediss", "unix"):
        raise ValueError(f"must begin with redis://, rediss://, unix://, {':// or '.join(_SENTINEL_SCHEMES)}://")
    if scheme not in _SENTINEL_SCHEMES:
        _options(url)
        return None
    parts = urlsplit(url)
    userinfo, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.removeprefix("/").partition("/")
    if not hosts or not service:
        raise ValueError(f"must name the Sentinels and the service: {_FORM}")
    if database and not database.isdecimal():
        raise ValueError(f"the database {database!r} is not a number; the form is {_FORM}")
    query = dict(parse_qsl(parts.query))
    own = {name: query.pop(name) for name in _OWN if name in query}
    replicas = own.get("replicas", "1")
    if not replicas.isdecimal():
        raise ValueError(f"replicas={replicas} is not a number of replicas")
    options = _options(f"{_SENTINEL_SCHEMES[scheme]}://{userinfo}{at}redis/{database}?{urlencode(query)}")
    del options["host"]
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if is_tls := options.pop("connection_class", None) is not None:
        tls["ssl"] = True
    login = {name.removeprefix("sentinel_"): own[name] for name in _OWN[1:] if name in own}
    return SentinelAddress(
        tuple(_host_and_port(host) for host in hosts.split(",")),
        service,
        int(replicas),
        is_tls,
        options,
        {**tls, **login},
    )


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = _parse_url(url)  # type: ignore[no-untyped-call]  # it has no types
    return options


def _host_and_port(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or (":" in text.rpartition("]")[2] and not port):
        raise ValueError(f"{text!r} is not the address of a Sentinel; the form is {_FORM}")
    return host, port or _SENTINEL_PORT
