"""Whether the workers are paused: RQ's own suspension, which `rq suspend` and `rq resume` set and lift as well.

It holds for all workers of one Redis. `lua/claim.lua` claims nothing meanwhile; what is running goes on, and gateways
accept requests as ever.
"""

from __future__ import annotations

from typing import Final

from redis import Redis

_KEY: Final = "rq:suspended"


def suspend(redis: Redis, seconds: int | None = None) -> None:
    """Have no worker claim a request, for so long or until `resume`."""
    redis.set(_KEY, 1, ex=seconds)


def resume(redis: Redis) -> bool:
    """Let workers claim requests again; returns whether they were paused."""
    return bool(redis.delete(_KEY))


def is_suspended(redis: Redis) -> bool:
    """Whether workers are paused."""
    return bool(redis.exists(_KEY))
