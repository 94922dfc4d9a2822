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
from workers.state.once import IdempotentScript, new_call_id, once

_RATE_WINDOW_S: Final = 60
# KEYS: sorted set of the calls that were admitted, by their times in µs. ARGV: name of the call, limit, seconds of the
# window. Returns whether the call is admitted, how many more would be, and in how many seconds the oldest leaves the
# window or, for a call that is refused, one is admitted again. Sent again, a call that was admitted is found and not
# counted twice. What comes from the future was counted before Redis' clock was set back.
COUNT_REQUEST: Final = """
local calls, name, limit, window_s = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local from = now - window_s * 1000000
redis.call('ZREMRANGEBYSCORE', calls, '-inf', string.format('%.0f', from))
redis.call('ZREMRANGEBYSCORE', calls, string.format('(%.0f', now), '+inf')
local count = redis.call('ZCARD', calls)
local admitted = redis.call('ZSCORE', calls, name) and true or false
if not admitted and count < limit then
  redis.call('ZADD', calls, string.format('%.0f', now), name)
  redis.call('EXPIRE', calls, window_s)
  admitted, count = true, count + 1
end
local first = redis.call('ZRANGE', calls, math.max(0, admitted and 0 or count - limit), -1, 'WITHSCORES')[2]
local wait_s = math.max(1, math.ceil((tonumber(first or now) - from) / 1000000))
return {admitted and 1 or 0, math.max(0, limit - count), wait_s}
"""
_QUOTA_WINDOW_S: Final = 86_400
# KEYS: counter. ARGV: bytes to add, limit, seconds the counter lives. Returns 0, or in how many seconds it ends.
COUNT_UPLOAD: Final = once("""
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
if used + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return math.max(1, redis.call('TTL', KEYS[1])), false end
redis.call('INCRBY', KEYS[1], ARGV[1])
if used == 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return 0
""")


class Rates:
    """Counts the requests of every key that has a rate limit."""

    def __init__(self, redis: Redis) -> None:
        self._count = redis.register_script(COUNT_REQUEST)

    def count(self, key: Key) -> dict[str, str]:
        """Count one request; returns headers that tell what is left. Raises `TooManyRequests`, which counts nothing."""
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
        self._count = IdempotentScript(redis, COUNT_UPLOAD)

    def count(self, owner: str, size: int) -> None:
        """Count so many bytes; raises `TooManyRequests`, which counts nothing, if they are too many."""
        wait_s = int(self._count(keys=[f"facelight:uploads:{owner}"], args=[size, self._limit, _QUOTA_WINDOW_S]))
        if wait_s:
            message = f"This caller may upload {self._limit // 1024**2} MB a day. Try again in {_hours(wait_s)}."
            raise TooManyRequests(message, headers={"Retry-After": str(wait_s)})


def _hours(seconds: int) -> str:
    return f"{math.ceil(seconds / 3600)} h"
