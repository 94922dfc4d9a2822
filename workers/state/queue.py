"""Tells workers that somebody waits: one RQ queue per variant of a model, so that a worker hears what it can serve.

A job is a token. It says that somebody waits for the variant that its queue is called after, and nothing else: who that
is, is decided when a worker takes a token, by `Records.take`. A token too many does nothing; one too few is made good
for by the janitor. What Redis holds of a job besides its queue_key in the queue is never read, and the function that it
names is never imported: who can write to Redis can neither run code here nor stop a worker with a job it cannot parse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from models.catalog import MODELS
from workers.state.record import QueueKey
from workers.state.scripts import IdempotentScript, load_script

_SURPLUS: Final = 100
"""So many tokens too many are left in a queue: requests may be on their way."""
_REFILL: Final = 200
"""So many tokens are made good for at once."""


class Token(Job):
    """What RQ's worker gets for a token; its `name` is all that there is of it."""

    def __init__(self, name: bytes, redis: Redis) -> None:
        super().__init__(connection=redis, serializer=JSONSerializer)
        self.name = name


class TokenQueue(Queue):
    """The RQ queue of a model's variant."""

    def __init__(self, slug: str, variant: str, redis: Redis) -> None:
        super().__init__(f"facelight-{slug}-{variant}", connection=redis, serializer=JSONSerializer)
        self.slug = slug
        self.variant = variant

    @property
    def queue_key(self) -> QueueKey:
        """The model's slug and its variant."""
        return self.slug, self.variant

    @classmethod
    def dequeue_any(  # type: ignore[override]  # RQ calls it with names for all but the first two
        cls, queues: Sequence[Queue], timeout: int | None, connection: Redis, **_unused: Any
    ) -> tuple[Job, Queue] | None:
        """Take a token from the first of the queues that has one; for RQ's worker.

        Waits `timeout` seconds and raises RQ's `DequeueTimeout`; with None it does not wait and returns None.
        """
        by_key = {queue.key: queue for queue in queues}
        try:
            found = cls.lpop(list(by_key), timeout, connection=connection)
        except RedisTimeoutError as error:  # RQ's worker tries again after the one, and ends after the other
            raise RedisConnectionError(str(error)) from error
        if found is None:
            return None
        key, token = (word if isinstance(word, bytes) else word.encode() for word in found)
        return Token(token, connection), by_key[key.decode()]


class JobQueue:
    """All the queues. `Records.create` puts a token for each request; one that nobody takes is forgotten in time."""

    def __init__(self, redis: Redis, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._balance = IdempotentScript(redis, load_script("reconcile_wakeups"))

    def queue_of(self, slug: str, variant: str) -> TokenQueue:
        """The RQ queue of a model's variant."""
        return TokenQueue(slug, variant, self._redis)

    def all(self) -> Iterator[TokenQueue]:
        """The queues of every variant of every model."""
        return (self.queue_of(slug, variant) for slug in MODELS for variant in MODELS[slug].params.variants)

    def balance(self, queue: TokenQueue) -> int:
        """Have about as many tokens in a queue as requests wait for it; returns how many were added."""
        return int(self._balance(args=[*queue.queue_key, self._ttl_s, _REFILL, _SURPLUS]))
