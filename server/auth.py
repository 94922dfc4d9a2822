"""Who is calling: API keys, compared in constant time."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Annotated

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from server.context import GatewayDep
from server.errors import Unauthorized

_api_key_header = APIKeyHeader(name="x-api-key", scheme_name="ApiKey", auto_error=False)
_bearer = HTTPBearer(scheme_name="Bearer", auto_error=False)

ANYONE = ""
"""The owner of everything on a server without API keys."""


def authenticate(
    gateway: GatewayDep,
    key: Annotated[str | None, Depends(_api_key_header)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> str:
    """Name the caller by a digest of the key; raises `Unauthorized`. Requests belong to the name returned here."""
    keys = gateway.settings.api_keys
    if not keys:
        return ANYONE
    offered = key or (bearer.credentials if bearer else "")
    if not is_known(offered, keys):
        raise Unauthorized
    return owner_of(offered)


def is_known(offered: str, keys: tuple[str, ...]) -> bool:
    """Whether `offered` is one of `keys`; takes the same time wherever it differs, whichever it is."""
    digest = sha256(offered.encode()).digest()
    matches = [hmac.compare_digest(digest, sha256(key.encode()).digest()) for key in keys]
    return any(matches)


def owner_of(key: str) -> str:
    """The name under which a key owns requests: 16 hexadecimal digits that do not reveal it."""
    return sha256(key.encode()).hexdigest()[:16]


OwnerDep = Annotated[str, Depends(authenticate)]
