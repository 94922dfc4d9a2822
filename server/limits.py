"""How many requests a key may send per minute, and how many bytes a caller may upload per day.

Both are counted in Redis, by its clock, for all gateway processes together: requests in a sliding window, uploads in a
fixed one.
"""

from __future__ import annotations

import math
from typing import Final

from redis import Redis

from server.errors import TooManyRequests
from workers.state.keys import Key
from workers.state.scripts import IdempotentScript, load_script, new_call_id

_RATE_WINDOW_S: Final = 60
_QUOTA_WINDOW_S: Final = 86_400


class Rates:
    """Counts the requests of every key that has a rate limit."""

    def __init__(self, redis: Redis) -> None:
        self._count = redis.register_script(load_script("count_request"))

    def count(self, key: Key) -> dict[str, str]:
        """Count one request; returns the RateLimit headers. Raises `TooManyRequests`, without counting."""
        if key.rate is None:
            return {}
        calls = f"facelight:rate:{key.id}"
        admitted, left, wait_s = map(int, self._count(keys=[calls], args=[new_call_id(), key.rate, _RATE_WINDOW_S]))
        headers = _headers(key.rate, left, wait_s)
        if not admitted:
            message = f"This API key may send {key.rate} requests per minute. Try again in {wait_s} s."
            raise TooManyRequests(message, headers={**headers, "Retry-After": str(wait_s)})
        return headers


def _headers(rate: int, remaining: int, reset_s: int) -> dict[str, str]:
    """The IETF's RateLimit fields (draft-ietf-httpapi-ratelimit-headers-11)."""
    return {
        "RateLimit-Policy": f'"requests";q={rate};w={_RATE_WINDOW_S}',
        "RateLimit": f'"requests";r={remaining};t={reset_s}',
    }


class UploadQuota:
    """Counts the bytes that each owner uploads in the 24 hours that begin with its first upload."""

    def __init__(self, redis: Redis, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._count = IdempotentScript(redis, load_script("count_upload"))

    def count(self, owner: str, size: int) -> None:
        """Count an upload of `size` bytes; raises `TooManyRequests`, without counting, if it exceeds the quota."""
        wait_s = int(self._count(keys=[f"facelight:uploads:{owner}"], args=[size, self._limit, _QUOTA_WINDOW_S]))
        if wait_s:
            message = f"This caller may upload {self._limit // 1024**2} MB a day. Try again in {_hours(wait_s)}."
            raise TooManyRequests(message, headers={"Retry-After": str(wait_s)})


def _hours(seconds: int) -> str:
    return f"{math.ceil(seconds / 3600)} h"
