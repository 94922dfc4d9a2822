"""The outbox: webhooks that are to be sent, each written in the step that changes the state of its request.

A message is one event of one request. A gateway leases it, sends it and settles the lease; one whose lease has ended
otherwise is leased by another gateway. So a message is sent at least once. What it says is read from the record, with
which it expires. `lua/outbox.lua` lists the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from redis import Redis

from workers.state.connection import decode
from workers.state.record import WebhookEvent
from workers.state.scripts import IdempotentScript, load_script, new_call_id

LEASE_S: Final = 30
"""After so long another gateway sends a message; longer than a try may take."""


@dataclass(frozen=True)
class Message:
    """A message that this process is to send, under a lease; `tries` have failed so far."""

    id: str
    receiver: str
    tries: int
    lease: str

    @property
    def request_id(self) -> str:
        """The request that it tells of."""
        return self.id.partition(":")[0]

    @property
    def event(self) -> WebhookEvent:
        """What it tells."""
        return WebhookEvent(self.id.partition(":")[2])


@dataclass(frozen=True)
class Outstanding:
    """A message that was not delivered yet, or was given up; times are seconds since the epoch."""

    id: str
    url: str
    failed: bool
    at: float
    """When it is due, or was given up."""
    tries: int
    answer: str
    """What came of the last try; empty before the first."""


class Outbox:
    """All webhooks in one Redis that are to be sent."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lease = IdempotentScript(redis, load_script("webhooks_lease"))
        self._settle = redis.register_script(load_script("webhooks_settle"))
        self._replay = redis.register_script(load_script("webhooks_replay"))

    def lease(self, slots: int, per_receiver: int, sending: Mapping[str, int]) -> tuple[list[Message], float | None]:
        """Lease at most `slots` messages that are due for `LEASE_S`, and so many of a receiver at a time.

        `sending` says how many of each receiver this process has leased already. Also returns in how many seconds the
        next message is due that this process might send; None if there is none.
        """
        lease = new_call_id()
        busy = [word for pair in sending.items() for word in pair]
        leased, left_s = self._lease(args=[lease, LEASE_S, slots, per_receiver, *busy])
        messages = [Message(decode(one), decode(receiver), int(tries), lease) for one, receiver, tries in leased]
        return messages, float(left_s) if left_s else None

    def sent(self, message: Message) -> None:
        """It was delivered."""
        self._settle(args=[message.id, message.lease, "sent", 0, ""])

    def postpone(self, message: Message, pause_s: float, answer: str) -> None:
        """It could not be delivered: try again after a pause, or never if it expires before."""
        self._settle(args=[message.id, message.lease, "later", pause_s, answer])

    def give_up(self, message: Message, answer: str) -> None:
        """It could not be delivered, and is not tried again of itself."""
        self._settle(args=[message.id, message.lease, "failed", 0, answer])

    def outstanding(self) -> list[Outstanding]:
        """All messages that wait or were given up, by time."""
        found: list[tuple[str, float, bool]] = []
        for receiver in self._redis.zrange("facelight:webhooks", 0, -1):
            found += self._entries(f"facelight:webhooks:{decode(receiver)}", failed=False)
        found += self._entries("facelight:webhooks_failed", failed=True)
        messages = [self._message(*entry) for entry in found]
        return sorted((one for one in messages if one is not None), key=lambda one: one.at)

    def replay(self, ids: Iterable[str]) -> list[str]:
        """Make messages due at once, as if they had not been tried; returns the ids of those that there are."""
        return [decode(found) for found in self._replay(args=list(ids))]

    def _entries(self, key: str, failed: bool) -> list[tuple[str, float, bool]]:
        entries = cast("Sequence[tuple[bytes, float]]", self._redis.zrange(key, 0, -1, withscores=True))
        return [(decode(message), at, failed) for message, at in entries]

    def _message(self, message_id: str, at: float, failed: bool) -> Outstanding | None:
        """None if it has expired."""
        tries, answer = self._redis.hmget(f"facelight:webhook:{message_id}", "tries", "answer")
        url = self._redis.hget(f"facelight:request:{message_id.partition(':')[0]}", "webhook")
        if tries is None or url is None:
            return None
        return Outstanding(message_id, decode(url), failed, at, int(tries), decode(answer) if answer else "")
