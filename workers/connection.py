"""Connections to Redis."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Final, TypeVar

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

Answer = TypeVar("Answer")
_log = logging.getLogger(__name__)
_PAUSE_S: Final = 0.5
_UNABLE: Final = ("OOM command", "MISCONF", "READONLY", "read only replica", "used memory > 'maxmemory'")
"""What answers say of a Redis that is there and cannot write now: full, without a disk, a replica."""


def connect(url: str) -> Redis:
    """Connect lazily; answers are bytes, as RQ needs them. A broken connection is tried anew for about a second."""
    return Redis.from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=4),
        health_check_interval=30,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),  # an ACL refuses, and notes, each asking
    )


def insist(step: Callable[[], Answer], patience_s: float = math.inf) -> Answer:
    """Take a step that must not be lost, again and again while Redis is away; it must bear being taken twice.

    Raises the last error when `patience_s` are over, and at once what waiting does not help against.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return step()
        except RedisError as error:
            if time.monotonic() > deadline or not is_outage(error):
                raise
            _log.warning("Redis cannot be used (%s); trying again", error)
            time.sleep(_PAUSE_S)


def is_outage(error: RedisError) -> bool:
    """Whether Redis is to blame for an error, not what it was asked: the same may succeed later."""
    away = isinstance(error, (RedisConnectionError, RedisTimeoutError))
    return away or any(words in str(error) for words in _UNABLE)


def text(value: object) -> str:
    """One answer of Redis as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
