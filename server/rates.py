"""How many requests a key may send per minute: a moving window in Redis, common to all gateway processes."""

from __future__ import annotations

import math
import time
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis import Redis

from server.errors import TooManyRequests
from workers.keys import Key

_WINDOW_S: Final = 60


class Rates:
    """Counts the requests of every key that has a rate limit."""

    def __init__(self, redis: Redis) -> None:
        storage = RedisStorage("redis://", connection_pool=redis.connection_pool, key_prefix="facelight:rate")
        self._limiter = MovingWindowRateLimiter(storage)

    def count(self, key: Key) -> dict[str, str]:
        """Count one request; returns headers that tell what is left. Raises `TooManyRequests`, which counts nothing."""
        if key.rate is None:
            return {}
        limit = RateLimitItemPerMinute(key.rate)
        admitted = self._limiter.hit(limit, key.id)
        window = self._limiter.get_window_stats(limit, key.id)
        wait_s = max(1, math.ceil(window.reset_time - time.time()))
        headers = _headers(key.rate, max(0, window.remaining), wait_s)
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
