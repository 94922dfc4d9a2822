"""Waits for the end of requests without polling: Redis says when one has ended.

One connection per process listens for all waiters. Whoever waits registers first and looks at the record afterwards,
so an end between the two is not missed; after a lost connection every waiter looks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from workers.state.connection import decode
from workers.state.scripts import FINISHED_CHANNEL

_log = logging.getLogger(__name__)
_QUIET_S: Final = 5.0
"""After so long without a message the connection is tested."""
_ANSWER_S: Final = 3.0
"""Then, and after a connection was made, Redis has to say something within so long."""
_RECONNECT_S: Final = 0.5


class CompletionListener:
    """Wakes those who wait for a request's end. `listen` must be running."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url,
            retry=Retry(NoBackoff(), retries=0),
            socket_connect_timeout=_ANSWER_S,
            socket_timeout=_ANSWER_S,
            health_check_interval=0,  # `listen` tests the connection itself
            maint_notifications_config=MaintNotificationsConfig(
                enabled=False
            ),  # an ACL refuses, and notes, each asking
        )
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._disconnected = False

    @contextmanager
    def subscribe(self, request_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the request may have ended; clear it before each look at the record."""
        event = asyncio.Event()
        self._waiters[request_id].add(event)
        try:
            yield event
        finally:
            self._waiters[request_id].discard(event)
            if not self._waiters[request_id]:
                del self._waiters[request_id]

    async def listen(self) -> None:
        """Listen for ends until cancelled, over as many connections as it takes."""
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(FINISHED_CHANNEL)
                    self._pass_on(await _answer(channel))
                    while True:
                        self._pass_on(await _next_message(channel))
            except (RedisError, OSError) as error:
                if not self._disconnected:
                    _log.warning("lost the Redis subscription, reconnecting: %s", error)
                self._disconnected = True
                await asyncio.sleep(_RECONNECT_S)

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    def _pass_on(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            self._wake(decode(message["data"]))
        elif message["type"] == "subscribe":
            # The first words of every new connection: what was said before, nobody here has heard.
            self._disconnected = False
            for request_id in list(self._waiters):
                self._wake(request_id)

    def _wake(self, request_id: str) -> None:
        for event in self._waiters.get(request_id, ()):
            event.set()


async def _next_message(channel: PubSub) -> dict[str, Any]:
    message: dict[str, Any] | None = await channel.get_message(timeout=_QUIET_S)
    if message is not None:
        return message
    await channel.ping()
    return await _answer(channel)


async def _answer(channel: PubSub) -> dict[str, Any]:
    message: dict[str, Any] | None = await channel.get_message(timeout=_ANSWER_S)
    if message is None:
        raise RedisConnectionError("the connection is silent")
    return message
