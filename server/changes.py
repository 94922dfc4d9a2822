"""Notifies of changes of requests by Redis pub/sub, so that nothing waits by polling.

One connection per process serves all subscribers. Ends of all requests come by one channel, the other changes of a
request by one of its own, which the connection subscribes to only while somebody wants them. A subscriber subscribes
first and reads the record afterwards, so that no change is missed; after a reconnection every subscriber is notified,
as messages may have been lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from workers.state.connection import close_async, connect_async, decode
from workers.state.scripts import CHANGES_PREFIX, FINISHED_CHANNEL, WEBHOOKS_CHANNEL

_log = logging.getLogger(__name__)
_PING_AFTER_S: Final = 5.0
"""Seconds without a message after which a PING is sent."""
_REPLY_S: Final = 3.0
"""Time limit of connecting, and of the reply to SUBSCRIBE and PING."""
_RECONNECT_S: Final = 0.5


class ChangeListener:
    """Sets the events of subscribers when what they wait for may have come about. `listen` must be running."""

    def __init__(self, redis_url: str) -> None:
        self._redis = connect_async(redis_url, _REPLY_S)
        self._subscribers: defaultdict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)
        """By channel, and what a message on it must say; "" is any message."""
        self._channels_changed = asyncio.Event()
        self._disconnected = False

    @contextmanager
    def ended(self, request_id: str) -> Iterator[asyncio.Event]:
        """The event that is set when the request may have ended; clear it before each read of the record."""
        event = asyncio.Event()
        with self._subscribed(FINISHED_CHANNEL, request_id, event):
            yield event

    @contextmanager
    def changed(self, request_id: str) -> Iterator[asyncio.Event]:
        """The same for all changes of a request: states and progress."""
        with self.ended(request_id) as event, self._subscribed(CHANGES_PREFIX + request_id, "", event):
            yield event

    @contextmanager
    def outbox(self) -> Iterator[asyncio.Event]:
        """The event that is set when the outbox may have a message that is due."""
        event = asyncio.Event()
        with self._subscribed(WEBHOOKS_CHANNEL, "", event):
            yield event

    async def listen(self) -> None:
        """Receive changes until cancelled; reconnects whenever the connection is lost."""
        while True:
            try:
                async with self._redis.pubsub() as connection:
                    await connection.subscribe(FINISHED_CHANNEL)
                    self._handle(await _reply(connection))
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._subscribe(connection))
                        tasks.create_task(self._receive(connection))
            # RuntimeError: both tasks read from a new connection.
            except* (RedisError, OSError, RuntimeError) as errors:
                if not self._disconnected:
                    _log.warning("lost the Redis subscription, reconnecting: %s", errors.exceptions[0])
                self._disconnected = True
                await asyncio.sleep(_RECONNECT_S)

    async def close(self) -> None:
        """Close the connection."""
        await close_async(self._redis)

    @contextmanager
    def _subscribed(self, channel: str, message: str, event: asyncio.Event) -> Iterator[None]:
        topic = channel, message
        self._subscribers[topic].add(event)
        self._channels_changed.set()
        try:
            yield
        finally:
            self._subscribers[topic].discard(event)
            if not self._subscribers[topic]:
                del self._subscribers[topic]
                self._channels_changed.set()

    async def _subscribe(self, connection: PubSub) -> None:
        """Keep the connection subscribed to the channels that somebody waits for; many at once, if many change."""
        subscribed = {FINISHED_CHANNEL}
        while True:
            self._channels_changed.clear()
            wanted = {FINISHED_CHANNEL, *(channel for channel, _ in self._subscribers)}
            if added := wanted - subscribed:
                await connection.subscribe(*added)
            if removed := subscribed - wanted:
                await connection.unsubscribe(*removed)
            subscribed = wanted
            await self._channels_changed.wait()

    async def _receive(self, connection: PubSub) -> None:
        while True:
            self._handle(await _next_message(connection))

    def _handle(self, message: dict[str, Any]) -> None:
        channel = decode(message["channel"])
        if message["type"] == "message":
            self._notify(channel, decode(message["data"]) if channel == FINISHED_CHANNEL else "")
        elif message["type"] == "subscribe" and channel == FINISHED_CHANNEL:
            # First message of every new connection: earlier ones may have been lost.
            self._disconnected = False
            for topic in list(self._subscribers):
                self._notify(*topic)
        elif message["type"] == "subscribe":
            self._notify(channel, "")  # what has changed before was not heard

    def _notify(self, channel: str, message: str) -> None:
        for event in self._subscribers.get((channel, message), ()):
            event.set()


async def _next_message(connection: PubSub) -> dict[str, Any]:
    message: dict[str, Any] | None = await connection.get_message(timeout=_PING_AFTER_S)
    if message is not None:
        return message
    await connection.ping()
    return await _reply(connection)


async def _reply(connection: PubSub) -> dict[str, Any]:
    message: dict[str, Any] | None = await connection.get_message(timeout=_REPLY_S)
    if message is None:
        raise RedisConnectionError("no reply from Redis")
    return message
