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
class Accounts:
    """The API keys: those of the settings, those that were issued, and how often each was used of late."""

    settings: GatewaySettings
    keys: Keys
    rates: Rates

    async def authenticate(self, presented: str) -> Caller:
        """The caller whose API key is `presented`; raises `Unauthorized`, with one message for every invalid key."""
        if not self.settings.asks_for_key:
            return Caller(ANYONE, None, self)
        if is_known(presented, self.settings.api_keys):
            return Caller(owner_of(presented), None, self)
        if issued := await run_sync(self.keys.find, presented):
            return Caller(issued.id, issued, self)
        raise Unauthorized


@dataclass(frozen=True)
class Caller:
    """An authenticated caller: the owner of its requests, what its API key may do, and the credits it has left.

    Without an issued key (no keys required, or a key of the settings) a caller is neither limited nor metered.
    """

    owner: str
    issued_key: Key | None
    accounts: Accounts

    @property
    def log_name(self) -> str:
        """Name of the key in the access log: the issued key's name, or the owner of a key of the settings."""
        return self.issued_key.name if self.issued_key else self.owner

    @property
    def webhook(self) -> str | None:
        """URL that the key's requests tell of their end, unless they name another."""
        return self.issued_key.webhook if self.issued_key else None

    async def admit(self, slug: str) -> dict[str, str]:
        """Check the key's scope and count the request against its rate limit, whatever its outcome.

        Returns the RateLimit response headers. Raises `Forbidden` or `TooManyRequests`.
        """
        if self.issued_key is None:
            return {}
        if not self.issued_key.may_use(slug):
            raise Forbidden(f"This API key may not use {slug}.")
        return await run_sync(self.accounts.rates.count, self.issued_key)

    def credit_balance(self) -> float:
        """Credits that the key has left; `FACELIGHT_CREDITS` for callers that are not metered."""
        key = self.accounts.keys.get(self.issued_key.id) if self.issued_key else None
        return self.accounts.settings.credits if key is None or key.credits is None else key.credits


def is_known(presented: str, keys: tuple[str, ...]) -> bool:
    """Whether `presented` is one of `keys`, compared in constant time."""
    digest = sha256(presented.encode()).digest()
    matches = [hmac.compare_digest(digest, sha256(key.encode()).digest()) for key in keys]
    return any(matches)


def owner_of(key: str) -> str:
    """The owner id of a key of the settings: 16 hexadecimal digits of its SHA-256."""
    return sha256(key.encode()).hexdigest()[:16]
