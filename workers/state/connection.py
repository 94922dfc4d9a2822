"""Connections to Redis, and how long they wait for it.

With health checks, redis-py waits for a silent Redis (retries + 1)² times its time-out: two minutes for 4 retries and
5 s (`findings/redis_py_health_checks_square_retries.sh`). So both are off, and a command is tried again in one place:

a connection broke        again for about a second; every command may be sent twice
no answer for `ANSWER_S`  once more, on a new connection: the old one may have been dead for long
neither helped            the circuit breaker opens: no call waits any more; one at a time tries whether Redis answers

What one call of the gateway waits in all, over all of its commands, is bounded by `wait_budget`. RQ's connection, which
is meant to block, comes from `connect_blocking`; that of the listener is in `server.completion`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redis import Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

Answer = TypeVar("Answer")
_log = logging.getLogger(__name__)
ANSWER_S: Final = 1.5
"""How long a connection may take to be made, and a command to be answered."""
_COMMAND_S: Final = 2 * ANSWER_S
"""No further attempt at a command begins after so long."""
CALL_S: Final = 3.0
"""What a call of the gateway waits for Redis in all, and `ANSWER_S` more at most: less than the 5 s of the docs."""
_RECONNECT_S: Final = 1.0
"""A broken connection is tried anew for so long: Redis may be starting again."""
_TRIAL_PAUSE_S: Final = 0.25
"""While the circuit breaker is open, the pause between two calls that try Redis."""
_PAUSE_S: Final = 0.5
_CLOCK_INTERVAL_S: Final = 60.0
_CLOCK_RETRY_S: Final = 5.0
_UNABLE: Final = ("OOM command", "MISCONF", "READONLY", "read only replica", "used memory > 'maxmemory'")
"""What answers say of a Redis that is there and cannot write now: full, without a disk, a replica."""


@dataclass
class _Budget:
    left_s: float


_budget: ContextVar[_Budget | None] = ContextVar("redis_wait_budget", default=None)


@contextmanager
def wait_budget(seconds: float) -> Iterator[None]:
    """Bound what all commands of the block wait for Redis together, also those in threads that it calls.

    When it is used up, commands raise redis-py's TimeoutError without being sent. One that has begun may take
    `ANSWER_S` more.
    """
    token = _budget.set(_Budget(seconds))
    try:
        yield
    finally:
        _budget.reset(token)


def connect(url: str) -> Redis:
    """Connect lazily; answers are bytes, as RQ needs them. May be used by many threads.

    No command takes longer than about 3 s, and none waits while Redis is known not to answer. Every command may reach
    Redis twice.
    """
    client: Redis = _Client.from_url(url, **_options(ANSWER_S, Retry(NoBackoff(), 0)))
    return client


def connect_blocking(url: str, answer_s: float) -> Redis:
    """Connect lazily, for commands that wait in Redis: none takes longer than about `answer_s` seconds to fail.

    RQ raises a shorter time-out than its own `connection_timeout`, so `answer_s` is to be that.
    """
    # Broken connections only: to wait a second time is left to RQ's loop, which can be told to end in between.
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 3, supported_errors=(RedisConnectionError,))
    client: Redis = Redis.from_url(url, **_options(answer_s, retry))
    return client


def _options(answer_s: float, retry: Retry) -> dict[str, Any]:
    return {
        "socket_connect_timeout": ANSWER_S,
        "socket_timeout": answer_s,
        "retry": retry,
        "health_check_interval": 0,  # a PING before a command doubles the wait; TCP keepalive finds dead peers
        "driver_info": None,  # two round trips less for every connection
        "maint_notifications_config": MaintNotificationsConfig(
            enabled=False
        ),  # an ACL refuses them, and they may lengthen time-outs
    }


class _CircuitBreaker:
    """Whether Redis did not answer lately, as all threads of a client have found out together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trial_at = 0.0
        self.is_open = False

    def admit(self) -> bool:
        """Let a call through: True as usual, False as the one that tries whether Redis is back.

        Raises redis-py's TimeoutError if it is not to wait.
        """
        if not self.is_open:
            return True
        with self._lock:
            if self.is_open and time.monotonic() < self._trial_at:
                raise RedisTimeoutError("Redis did not answer a moment ago")
            self._trial_at = time.monotonic() + _COMMAND_S
            return False

    def answered(self) -> None:
        """Redis has answered, whatever it said."""
        if self.is_open:
            self.is_open = False
            _log.info("Redis answers again")

    def failed(self, error: RedisError) -> None:
        """All attempts of a call were in vain."""
        with self._lock:
            if not self.is_open:
                _log.info("Redis does not answer (%s); calls do not wait for it until it does", error)
            self.is_open = True
            self._trial_at = time.monotonic() + _TRIAL_PAUSE_S


class _Client(Redis):
    """Sends commands again, within bounds; see the module."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._breaker = _CircuitBreaker()
        super().__init__(*args, **options)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command as often as the bounds allow, and return its answer."""
        budget = _budget.get()
        if budget is not None and budget.left_s <= 0:
            raise RedisTimeoutError("this call has waited for Redis for too long")
        as_usual = self._breaker.admit()
        began = time.monotonic()
        until = began + min(_COMMAND_S, budget.left_s if budget else math.inf) if as_usual else began
        try:
            answer = self._attempts(began, until, args, options)
        except (RedisConnectionError, RedisTimeoutError) as error:
            self._breaker.failed(error)
            raise
        except RedisError:
            self._breaker.answered()
            raise
        finally:
            if budget is not None:
                budget.left_s -= time.monotonic() - began
        self._breaker.answered()
        return answer

    def _attempts(self, began: float, until: float, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        pause_s, timed_out = 0.05, False
        while True:
            try:
                return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # it has no types
            except RedisTimeoutError:
                if timed_out or self._breaker.is_open or time.monotonic() >= until:
                    raise
                timed_out = True
            except RedisConnectionError:
                if self._breaker.is_open or time.monotonic() + pause_s > min(until, began + _RECONNECT_S):
                    raise
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, 0.5)


class SharedClock:
    """One clock for all processes and hosts: seconds since the epoch by Redis' clock, read once a minute.

    In between, and during an outage, it runs by this machine's monotonic clock, as host clocks may jump and disagree.
    Until Redis has replied once, it starts from this machine's own clock. Thread-safe.
    """

    def __init__(self, redis_time: Callable[[], float]) -> None:
        """`redis_time` returns Redis' time in seconds since the epoch, or raises `RedisError`."""
        self._redis_time = redis_time
        self._offset = time.time() - time.monotonic()
        self._next_read_at = 0.0

    def __call__(self) -> float:
        """The time now."""
        if time.monotonic() >= self._next_read_at:
            self._read()
        return time.monotonic() + self._offset

    def _read(self) -> None:
        self._next_read_at = time.monotonic() + _CLOCK_RETRY_S  # first of all, so that other threads do not read too
        try:
            self._offset = self._redis_time() - time.monotonic()
        except RedisError as error:
            _log.debug("Redis' time cannot be read: %s", error)
        else:
            self._next_read_at = time.monotonic() + _CLOCK_INTERVAL_S


def retry_until_available(step: Callable[[], Answer], patience_s: float = math.inf) -> Answer:
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


def decode(value: object) -> str:
    """One answer of Redis as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
