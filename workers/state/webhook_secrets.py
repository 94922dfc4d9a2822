"""Secrets that webhooks are signed with (Standard Webhooks): of each issued API key, and one of the server.

Without an expiry, in the field `webhook_secrets` of a key's hash, or of `facelight:webhook-secrets` for callers without
an issued key. The receiver needs the same secret, so it is kept as it is.
"""

from __future__ import annotations

import base64
import secrets
from typing import Final, Literal

from redis import Redis

from workers.state.connection import decode, replicated
from workers.state.keys import PREFIX
from workers.state.scripts import IdempotentScript, load_script

_SERVER: Final = "facelight:webhook-secrets"
_FIELD: Final = "webhook_secrets"
_BYTES: Final = 32


class WebhookSecrets:
    """The secrets of one Redis. `key_id` is that of an issued key, None the server itself."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._change = IdempotentScript(redis, load_script("webhook_secrets"))

    def get(self, key_id: str | None) -> list[str]:
        """The secrets that webhooks are signed with, the newest first; the first one is made when it is needed."""
        held = self._redis.hget(_key(key_id), _FIELD)
        return decode(held).split(",") if held else self._changed(key_id, "show")

    def rotate(self, key_id: str | None) -> list[str]:
        """Add a new secret to sign with; of the older ones, the newest stays until `retire`."""
        return self._changed(key_id, "rotate")

    def retire(self, key_id: str | None) -> list[str]:
        """Sign with the newest secret alone from now on."""
        return self._changed(key_id, "retire")

    def _changed(self, key_id: str | None, action: Literal["show", "rotate", "retire"]) -> list[str]:
        new = f"whsec_{base64.b64encode(secrets.token_bytes(_BYTES)).decode()}"
        with replicated():
            return decode(self._change(keys=[_key(key_id)], args=[action, new])).split(",")


def _key(key_id: str | None) -> str:
    return _SERVER if key_id is None else f"{PREFIX}{key_id}"
