"""Connections to Redis."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

Answer = TypeVar("Answer")
_log = logging.getLogger(__name__)
_OUTAGE_S: Final = 90.0
_PAUSE_S: Final = 0.5


def connect(url: str) -> Redis:
    """Connect lazily; answers are bytes, as RQ needs them. A broken connection is tried anew for about a second."""
    return Redis.from_url(url, retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=4), health_check_interval=30)


def insist(step: Callable[[], Answer], patience_s: float = _OUTAGE_S) -> Answer:
    """Take a step that must not be lost, again and again while Redis is away; it must bear being taken twice.

    Raises the last error when `patience_s` are over.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return step()
        except (RedisConnectionError, RedisTimeoutError) as error:
            if time.monotonic() > deadline:
                raise
            _log.warning("Redis is away (%s); trying again", error)
            time.sleep(_PAUSE_S)


def text(value: object) -> str:
    """One answer of Redis as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
