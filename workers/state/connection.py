"""Connections to Redis, and how long they wait for it: the only place that makes clients.

With health checks, redis-py waits for a silent Redis (retries + 1)² times its time-out: two minutes for 4 retries and
5 s (`findings/redis_py_health_checks_square_retries.sh`). So both are off, and a command is tried again in one place:

connection error           retried for about a second; every command may reach Redis twice
no reply for `REPLY_TIMEOUT_S`    retried once, on a new connection: the old one may be half-open
retries failed             the circuit breaker opens: commands fail at once, except one at a time that probes Redis

`wait_budget` bounds the wait of one request to the gateway over all of its commands. RQ's connection, which blocks on
purpose, comes from `connect_blocking`, that of the pub/sub listener from `connect_async`.

With a `redis+sentinel://` URL every new connection asks the Sentinels for the master. Replication is asynchronous: a
master that dies takes the changes with it that its replicas have not got. So scripts in a `replicated` block are
acknowledged by replicas before their reply counts.
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
from typing import Any, Final, TypeVar, cast

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelPool
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from workers.state.address import parse_address

Client = TypeVar("Client", bound=Redis)
Answer = TypeVar("Answer")
_log = logging.getLogger(__name__)
REPLY_TIMEOUT_S: Final = 1.5
"""Time-out of a connect, and of a reply."""
_COMMAND_S: Final = 2 * REPLY_TIMEOUT_S
"""No retry of a command begins after so long."""
CALL_S: Final = 3.0
"""Wait budget of one request to the gateway; it may overrun by `REPLY_TIMEOUT_S`, which stays below the documented 5
s."""
_RECONNECT_S: Final = 1.0
"""A lost connection is retried for so long: Redis may be restarting."""
_HALF_OPEN_INTERVAL_S: Final = 0.25
"""Pause between two probes while the circuit breaker is open."""
_PAUSE_S: Final = 0.5
_CLOCK_INTERVAL_S: Final = 60.0
_CLOCK_RETRY_S: Final = 5.0
_SENTINEL_S: Final = 0.5
"""Time-out of a connect to a Sentinel, and of its reply."""
_REPLICATION_S: Final = 1.0
"""How long a change waits for its replicas; shorter than `REPLY_TIMEOUT_S`."""
_REPLICATION_MARK: Final = "facelight:replicated"
_NOT_WRITABLE: Final = (
    "OOM command",
    "MISCONF",
    "READONLY",
    "read only replica",
    "used memory > 'maxmemory'",
    "NOREPLICAS",
    "UNBLOCKED",
    "replica instances",
)
"""Error replies of a Redis that is up and cannot write now: full, without a disk, a replica, without replicas."""


@dataclass
class _Budget:
    left_s: float


_budget: ContextVar[_Budget | None] = ContextVar("redis_wait_budget", default=None)
_replicated: ContextVar[bool] = ContextVar("redis_replicated", default=False)


class NotReplicated(RedisError):
    """The master has taken a change, and too few replicas have confirmed it in time: it may be lost with the master."""


@contextmanager
def wait_budget(seconds: float) -> Iterator[None]:
    """Bound the total wait for Redis of all commands in the block, those in threads it calls included.

    When it is used up, commands raise redis-py's TimeoutError without being sent. One that was sent may take
    `REPLY_TIMEOUT_S` more.
    """
    token = _budget.set(_Budget(seconds))
    try:
        yield
    finally:
        _budget.reset(token)


@contextmanager
def replicated() -> Iterator[None]:
    """Have replicas hold what the scripts in the block have written, or found written, before they return.

    They raise `NotReplicated` if that takes longer than a second: the outcome is open then, and the script is to be
    called again. Without Sentinels there are no replicas to wait for.
    """
    token = _replicated.set(True)
    try:
        yield
    finally:
        _replicated.reset(token)


def connect(url: str) -> Redis:
    """A lazily connected, thread-safe client; replies are bytes.

    No command takes longer than about 3 s, and none waits while the circuit breaker is open. Every command may reach
    Redis twice.
    """
    return _open(url, _Client, _options(REPLY_TIMEOUT_S, Retry(NoBackoff(), 0)))


def connect_blocking(url: str, answer_s: float) -> Redis:
    """A lazily connected client for blocking commands: none takes longer than about `answer_s` seconds to fail.

    RQ raises a shorter time-out than its own `connection_timeout`, so `answer_s` is to be that.
    """
    # Connection errors only: after a time-out RQ's loop blocks again, and can handle SIGTERM in between.
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 3, supported_errors=(RedisConnectionError,))
    return _open(url, Redis, _options(answer_s, retry))


def connect_async(url: str, answer_s: float) -> AsyncRedis:
    """A lazily connected client that does not retry; a connect and a reply take at most `answer_s` seconds each."""
    options = {**_options(answer_s, AsyncRetry(NoBackoff(), 0)), "socket_connect_timeout": answer_s}
    address = parse_address(url)
    if address is None:
        return AsyncRedis.from_url(url, **options)
    to_sentinels = {**_sentinel_options(AsyncRetry(NoBackoff(), 0)), **address.sentinel_options}
    sentinel = AsyncSentinel(  # type: ignore[no-untyped-call]  # it has no types
        address.sentinels, sentinel_kwargs=to_sentinels, **{**options, **address.options}
    )
    client: AsyncRedis = sentinel.master_for(address.service, ssl=address.is_tls)
    return client


async def close_async(client: AsyncRedis) -> None:
    """Close a client of `connect_async`, and what it holds open to Sentinels."""
    await client.aclose()
    if isinstance(client.connection_pool, AsyncSentinelPool):
        await client.connection_pool.sentinel_manager.aclose()


def _open(url: str, kind: type[Client], options: dict[str, Any]) -> Client:
    address = parse_address(url)
    if address is None:
        return cast("Client", kind.from_url(url, **options))
    to_sentinels = {**_sentinel_options(Retry(NoBackoff(), 0)), **address.sentinel_options}
    sentinel = _Sentinel(  # type: ignore[no-untyped-call]  # it has no types
        address.sentinels, sentinel_kwargs=to_sentinels, **{**options, **address.options}
    )
    kind_of_connection = _ManagedSSLConnection if address.is_tls else _ManagedConnection
    client: Client = sentinel.master_for(  # type: ignore[no-untyped-call]
        address.service, redis_class=kind, connection_class=kind_of_connection
    )
    if isinstance(client, _Client):
        client.replicas = address.replicas
    return client


class _ManagedConnection(SentinelManagedConnection):
    """Closed when a reply does not come, as all others are: redis-py would use it again, and not ask the Sentinels."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply; raises redis-py's TimeoutError."""
        try:
            return super().read_response(*args, **options)
        except RedisTimeoutError:
            self.disconnect()  # type: ignore[no-untyped-call]  # it has no types
            raise


class _ManagedSSLConnection(_ManagedConnection, SentinelManagedSSLConnection):
    pass


class _Sentinel(Sentinel):
    """Safe for threads, which share the list that the Sentinel that replied is moved to the head of; short in words."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port of the master; raises redis-py's MasterNotFoundError."""
        reasons = []
        for sentinel in self.sentinels:
            try:
                masters: Any = sentinel.sentinel_masters()
                state = masters.get(service_name)
            except RedisError as error:
                reasons.append(str(error))
                continue
            if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                self.sentinels = [sentinel, *(other for other in self.sentinels if other is not sentinel)]
                return state["ip"], state["port"]
            reasons.append("it is down" if state else "not known by that name")
        raise MasterNotFoundError(f"no Sentinel names a master {service_name!r} ({'; '.join(reasons)})")


def _sentinel_options(retry: Any) -> dict[str, Any]:
    return {**_options(_SENTINEL_S, retry), "socket_connect_timeout": _SENTINEL_S}


def _options(answer_s: float, retry: Any) -> dict[str, Any]:
    return {
        "socket_connect_timeout": REPLY_TIMEOUT_S,
        "socket_timeout": answer_s,
        "retry": retry,
        "health_check_interval": 0,  # a PING before a command doubles the wait; TCP keepalive finds dead peers
        "driver_info": None,  # two round trips less for every connection
        # An ACL refuses them, and they may lengthen time-outs.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


class _CircuitBreaker:
    """Whether Redis fails to reply, as all threads of a client observe together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trial_at = 0.0
        self.is_open = False

    def admit(self) -> bool:
        """Admit a command: True if the breaker is closed, False if the command is the probe of an open one.

        Raises redis-py's TimeoutError for all others.
        """
        if not self.is_open:
            return True
        with self._lock:
            if self.is_open and time.monotonic() < self._trial_at:
                raise RedisTimeoutError("Redis did not answer a moment ago")
            self._trial_at = time.monotonic() + _COMMAND_S
            return False

    def answered(self) -> None:
        """Redis replied, be it with an error: close the breaker."""
        if self.is_open:
            self.is_open = False
            _log.info("Redis answers again")

    def failed(self, error: RedisError) -> None:
        """All attempts of a command failed: open the breaker."""
        with self._lock:
            if not self.is_open:
                _log.info("Redis does not answer (%s); commands fail at once until it does", error)
            self.is_open = True
            self._trial_at = time.monotonic() + _HALF_OPEN_INTERVAL_S


class _Client(Redis):
    """Retries commands within bounds; see the module."""

    replicas = 0
    """How many must confirm the scripts of a `replicated` block."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._breaker = _CircuitBreaker()
        super().__init__(*args, **options)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command, with retries as far as the bounds allow, and return its reply."""
        budget = _budget.get()
        if budget is not None and budget.left_s <= 0:
            raise RedisTimeoutError("the wait budget for Redis is used up")
        is_closed = self._breaker.admit()
        began = time.monotonic()
        until = began + min(_COMMAND_S, budget.left_s if budget else math.inf) if is_closed else began
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

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """Read the reply to a command; to a script of a `replicated` block, wait for the replicas as well."""
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name == "EVALSHA" and self.replicas and _replicated.get():
            self._await_replicas(connection)
        return answer

    def _await_replicas(self, connection: Any) -> None:
        """WAIT counts for writes of its own connection. A step that was taken before writes nothing, hence the mark.

        The replicas then hold all that this master had written until now, by any connection.
        """
        connection.send_command("PUBLISH", _REPLICATION_MARK, "")
        connection.read_response()
        connection.send_command("WAIT", self.replicas, int(_REPLICATION_S * 1000))
        confirmed = connection.read_response()
        if confirmed < self.replicas:
            raise NotReplicated(f"{confirmed} of {self.replicas} replicas confirmed a change within {_REPLICATION_S} s")

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


def retry_until_available(step: Callable[[], Answer], timeout_s: float = math.inf) -> Answer:
    """Run an idempotent step, and retry it during an outage of Redis for up to `timeout_s`.

    Raises the last error after that, and at once an error that is no outage.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return step()
        except RedisError as error:
            if time.monotonic() > deadline or not is_outage(error):
                raise
            _log.warning("Redis cannot be used (%s); trying again", error)
            time.sleep(_PAUSE_S)


def is_outage(error: RedisError) -> bool:
    """Whether an error is Redis' own, not the command's: the same may succeed later."""
    away = isinstance(error, (RedisConnectionError, RedisTimeoutError, NotReplicated))
    return away or any(words in str(error) for words in _NOT_WRITABLE)


def decode(value: object) -> str:
    """One reply of Redis as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
