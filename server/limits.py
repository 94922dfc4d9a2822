"""How many requests a key may send per minute: a moving window in Redis, common to all gateway processes.

The minute is that of Redis' clock: those of the gateways may differ.
"""

from __future__ import annotations

from typing import Final

from redis import Redis

from server.errors import TooManyRequests
from workers.state.keys import Key
from workers.state.scripts import load_script, new_call_id

_WINDOW_S: Final = 60


class Rates:
    """Counts the requests of every key that has a rate limit."""

    def __init__(self, redis: Redis) -> None:
        self._count = redis.register_script(load_script("count_request"))

    def count(self, key: Key) -> dict[str, str]:
        """Count one request; returns headers that tell what is left. Raises `TooManyRequests`, which counts nothing."""
        if key.rate is None:
            return {}
        calls = f"facelight:rate:{key.id}"
        admitted, left, wait_s = map(int, self._count(keys=[calls], args=[new_call_id(), key.rate, _WINDOW_S]))
        headers = _headers(key.rate, left, wait_s)
        if not admitted:
            sentence = f"This API key may send {key.rate} requests per minute. Try again in {wait_s} s."
            raise TooManyRequests(sentence, headers={**headers, "Retry-After": str(wait_s)})
        return headers


def _headers(rate: int, remaining: int, reset_s: int) -> dict[str, str]:
    """The IETF's RateLimit fields (draft-ietf-httpapi-ratelimit-headers-11)."""
    return {
        "RateLimit-Policy": f'"requests";q={rate};w={_WINDOW_S}',
        "RateLimit": f'"requests";r={remaining};t={reset_s}',
    }
