"""API keys: authentication of callers, what each key may do, and its credits.

A key is one of `FACELIGHT_API_KEYS`, with all models and without limits, or one that `facelight keys` has issued.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from anyio.to_thread import run_sync

from server.errors import Forbidden, Unauthorized
from server.limits import Rates
from server.settings import GatewaySettings
from workers.state.keys import Key, Keys

ANYONE: Final = ""
"""The owner of all requests on a server that requires no API keys."""


@dataclass(frozen=True)
class Caller:
    """An authenticated caller: the owner of its requests, and its issued key.

    Without an issued key (no keys required, or a key of the settings) a caller is neither limited nor metered.
    """

    owner: str
    key: Key | None = None

    @property
    def log_name(self) -> str:
        """Name of the key in the access log: the issued key's name, or the owner of a key of the settings."""
        return self.key.name if self.key else self.owner


class Accounts:
    """Authenticates and authorizes callers, and reads their credits."""

    def __init__(self, settings: GatewaySettings, keys: Keys, rates: Rates) -> None:
        self._settings = settings
        self._keys = keys
        self._rates = rates

    async def authenticate(self, presented: str) -> Caller:
        """The caller whose API key is `presented`; raises `Unauthorized`, with one message for every invalid key."""
        if not self._settings.asks_for_key:
            return Caller(ANYONE)
        if is_known(presented, self._settings.api_keys):
            return Caller(owner_of(presented))
        if issued := await run_sync(self._keys.find, presented):
            return Caller(issued.id, issued)
        raise Unauthorized

    async def admit(self, caller: Caller, slug: str) -> dict[str, str]:
        """Check the key's scope and count the request against its rate limit, whatever its outcome.

        Returns the RateLimit response headers. Raises `Forbidden` or `TooManyRequests`.
        """
        if caller.key is None:
            return {}
        if not caller.key.may_use(slug):
            raise Forbidden(f"This API key may not use {slug}.")
        return await run_sync(self._rates.count, caller.key)

    def credit_balance(self, caller: Caller) -> float:
        """Credits that the caller's key has left; `FACELIGHT_CREDITS` for callers that are not metered."""
        key = self._keys.get(caller.key.id) if caller.key else None
        return self._settings.credits if key is None or key.credits is None else key.credits


def is_known(presented: str, keys: tuple[str, ...]) -> bool:
    """Whether `presented` is one of `keys`, compared in constant time."""
    digest = sha256(presented.encode()).digest()
    matches = [hmac.compare_digest(digest, sha256(key.encode()).digest()) for key in keys]
    return any(matches)


def owner_of(key: str) -> str:
    """The owner id of a key of the settings: 16 hexadecimal digits of its SHA-256."""
    return sha256(key.encode()).hexdigest()[:16]
