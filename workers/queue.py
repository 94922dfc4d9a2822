"""The queue: one RQ queue for each variant of a model, so that a worker listens only to what it can serve.

A job carries a request's id and nothing else; the rest is in its record.
"""

from __future__ import annotations

from typing import Any, Final

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from models.catalog import MODELS
from workers.connection import text
from workers.errors import QueueFull
from workers.records import Record

FUNCTION: Final = "workers.task.run"
"""Name of the one job function. `RequestJob` never imports what a job names: this is for people who look at RQ."""


class RequestJob(Job):
    """An RQ job that can only do one thing: call the task that the worker has bound to it.

    The name of a function that arrives over Redis is never imported, so who can write to Redis cannot run code here.
    """

    task: Any = None

    def _execute(self) -> None:
        self.task(self.kwargs["request_id"])


class JobQueue:
    """Puts requests before the workers. `limit` is the number of waiting requests per model."""

    def __init__(self, redis: Redis, ttl_s: int, limit: int | None = None) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._limit = limit

    def queue_of(self, slug: str, variant: str) -> Queue:
        """The RQ queue of a model's variant."""
        name = f"facelight-{slug}-{variant}"
        return Queue(name, connection=self._redis, serializer=JSONSerializer, job_class=RequestJob)

    def check_room(self, slug: str) -> None:
        """Raise `QueueFull` if no more requests are taken for this model now."""
        if self._limit is not None and self.depth(slug) >= self._limit:
            raise QueueFull(f"{self._limit} requests are waiting for {slug} already.")

    def depth(self, slug: str) -> int:
        """How many requests wait for a worker, for any variant of a model."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for key in self._keys(slug):
                pipeline.llen(key)
            return sum(pipeline.execute())

    def put(self, request_id: str, slug: str, variant: str, attempt: int) -> None:
        """Put a request at the end of its variant's queue; putting it twice does no harm, it starts only once."""
        self.queue_of(slug, variant).enqueue_call(
            FUNCTION,
            kwargs={"request_id": request_id},
            job_id=job_id(request_id, attempt),
            timeout=self._ttl_s,
            ttl=self._ttl_s,
            result_ttl=0,
            failure_ttl=60,
        )

    def waiting(self) -> set[str]:
        """Ids of all requests that stand in a queue."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for key in (key for slug in MODELS for key in self._keys(slug)):
                pipeline.lrange(key, 0, -1)
            return {text(job).rpartition("-")[0] for jobs in pipeline.execute() for job in jobs}

    def discard(self, record: Record) -> None:
        """Remove what RQ keeps of the attempt that `record` shows, whose worker is dead."""
        self._redis.delete(Job.key_for(job_id(record.request_id, record.attempt - 1)))

    def _keys(self, slug: str) -> list[str]:
        return [self.queue_of(slug, variant).key for variant in MODELS[slug].params.variants]


def job_id(request_id: str, attempt: int) -> str:
    """Name of the job that carries attempt number `attempt` (from 0) of a request."""
    return f"{request_id}-{attempt}"
