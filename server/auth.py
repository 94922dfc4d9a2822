"""Who is calling, and what that one may do: keys of the settings and keys that `facelight keys` has issued.

The dependencies are coroutines, since the framework sends every plain function to a thread of its own: only what asks
Redis goes there.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import Depends, Request, Response
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from server.dependencies import Gateway, gateway_of
from server.errors import Forbidden, NotFound, Unauthorized
from workers.state.keys import Key
from workers.store.base import is_private, may_read

_api_key_header = APIKeyHeader(name="x-api-key", scheme_name="ApiKey", auto_error=False)
_bearer = HTTPBearer(scheme_name="Bearer", auto_error=False)

ANYONE = ""
"""The owner of everything on a server that asks for no keys."""


@dataclass(frozen=True)
class Caller:
    """Who is calling: the name under which requests belong to this caller, and the issued key, if it is one.

    Who has none, being anyone or sending a key of the settings, may use every model without limit and without paying.
    """

    owner: str
    key: Key | None = None


_KeyDep = Annotated[str | None, Depends(_api_key_header)]
_BearerDep = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def authenticate(request: Request, key: _KeyDep, bearer: _BearerDep) -> Caller:
    """Find out who is calling, for `caller_of`; raises `Unauthorized`, whatever is wrong with the key."""
    request.state.caller = await _caller(gateway_of(request), key, bearer)
    return caller_of(request)


def caller_of(request: Request) -> Caller:
    """Who is calling, in a route that depends on `authenticate`; in one that does not, this is an AttributeError."""
    caller: Caller = request.state.caller
    return caller


async def _caller(gateway: Gateway, key: str | None, bearer: HTTPAuthorizationCredentials | None) -> Caller:
    if not gateway.settings.asks_for_key:
        return Caller(ANYONE)
    offered = key or (bearer.credentials if bearer else "")
    if is_known(offered, gateway.settings.api_keys):
        return Caller(owner_of(offered))
    if issued := await run_sync(gateway.keys.find, offered):
        return Caller(issued.id, issued)
    raise Unauthorized


def may_submit(slug: str) -> Callable[..., Awaitable[None]]:
    """A dependency of routes that take requests for a model, after `authenticate`.

    Raises `Forbidden` or `TooManyRequests`. Counts the request, whatever becomes of it; what is left of the key's rate
    is told in the answer's headers.
    """

    async def check(request: Request, response: Response) -> None:
        caller = caller_of(request)
        if caller.key is None:
            return
        if not caller.key.may_use(slug):
            raise Forbidden(f"This API key may not use {slug}.")
        response.headers.update(await run_sync(gateway_of(request).rates.count, caller.key))

    return check


async def may_download(name: str, request: Request, key: _KeyDep, bearer: _BearerDep) -> None:
    """A dependency of routes that serve the file `name`: one with an owner asks for a key, and for that owner's.

    Raises `Unauthorized` or `NotFound`, neither of which tells whether there is such a file.
    """
    if is_private(name) and not may_read(name, (await authenticate(request, key, bearer)).owner):
        raise NotFound("There is no such file, or no longer.")


def balance(caller: Caller, gateway: Gateway) -> float:
    """The credits that a caller has left now; the settings name those of callers who pay nothing."""
    key = gateway.keys.get(caller.key.id) if caller.key else None
    return gateway.settings.credits if key is None or key.credits is None else key.credits


def is_known(offered: str, keys: tuple[str, ...]) -> bool:
    """Whether `offered` is one of `keys`; takes the same time wherever it differs, whichever it is."""
    digest = sha256(offered.encode()).digest()
    matches = [hmac.compare_digest(digest, sha256(key.encode()).digest()) for key in keys]
    return any(matches)


def owner_of(key: str) -> str:
    """The name under which a key of the settings owns requests: 16 hexadecimal digits that do not reveal it."""
    return sha256(key.encode()).hexdigest()[:16]
