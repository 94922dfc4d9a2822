"""Notifies of completed requests by Redis pub/sub, so that v1 calls wait without polling.

One connection per process serves all subscribers. A subscriber subscribes first and reads the record afterwards, so
that no completion is missed; after a reconnection every subscriber is notified, as messages may have been lost.
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
from workers.state.scripts import FINISHED_CHANNEL

_log = logging.getLogger(__name__)
_PING_AFTER_S: Final = 5.0
"""Seconds without a message after which a PING is sent."""
_REPLY_S: Final = 3.0
"""Time limit of connecting, and of the reply to SUBSCRIBE and PING."""
_RECONNECT_S: Final = 0.5


class CompletionListener:
    """Sets the events of subscribers when their request completes. `listen` must be running."""

    def __init__(self, redis_url: str) -> None:
        self._redis = connect_async(redis_url, _REPLY_S)
        self._subscribers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._disconnected = False

    @contextmanager
    def subscribe(self, request_id: str) -> Iterator[asyncio.Event]:
        """The event that is set when the request may have ended; clear it before each read of the record."""
        event = asyncio.Event()
        self._subscribers[request_id].add(event)
        try:
            yield event
        finally:
            self._subscribers[request_id].discard(event)
            if not self._subscribers[request_id]:
                del self._subscribers[request_id]

    async def listen(self) -> None:
        """Receive completions until cancelled; reconnects whenever the connection is lost."""
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(FINISHED_CHANNEL)
                    self._handle(await _reply(channel))
                    while True:
                        self._handle(await _next_message(channel))
            except (RedisError, OSError) as error:
                if not self._disconnected:
                    _log.warning("lost the Redis subscription, reconnecting: %s", error)
                self._disconnected = True
                await asyncio.sleep(_RECONNECT_S)

    async def close(self) -> None:
        """Close the connection."""
        await close_async(self._redis)

    def _handle(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            self._notify(decode(message["data"]))
        elif message["type"] == "subscribe":
            # First message of every new connection: earlier ones may have been lost.
            self._disconnected = False
            for request_id in list(self._subscribers):
                self._notify(request_id)

    def _notify(self, request_id: str) -> None:
        for event in self._subscribers.get(request_id, ()):
            event.set()


async def _next_message(channel: PubSub) -> dict[str, Any]:
    message: dict[str, Any] | None = await channel.get_message(timeout=_PING_AFTER_S)
    if message is not None:
        return message
    await channel.ping()
    return await _reply(channel)


async def _reply(channel: PubSub) -> dict[str, Any]:
    message: dict[str, Any] | None = await channel.get_message(timeout=_REPLY_S)
    if message is None:
        raise RedisConnectionError("no reply from Redis")
    return message
