"""Connections to Redis."""

from __future__ import annotations

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry


def connect(url: str) -> Redis:
    """Connect lazily; answers are bytes, as RQ needs them. A broken connection is tried anew for about a second."""
    return Redis.from_url(url, retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=4), health_check_interval=30)


def text(value: object) -> str:
    """One answer of Redis as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
