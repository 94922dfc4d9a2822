"""All of RQ that is used: the only module that imports it.

What RQ does: its worker loop blocks on the lists of wakeups (BLPOP on one list per queue key, in turn), handles
SIGTERM, reconnects after an outage, and lists workers and queues for RQ's own tools (`rq info`, dashboards, `rq
suspend`). A wakeup is a job in an RQ queue; it says that a request waits for the queue key that its queue is named
after, and nothing else.

What RQ does not do: it holds no request, decides no order, retries nothing and runs no function. Requests, their fair
queue, claims, leases and results are `workers.state.records`; gateways write wakeups in Lua (`common.lua`) and do not
import RQ. What Redis holds of a job besides its name is never read, and the function that it names never imported:
a client that can write to Redis can neither run code here nor stop a worker with a job that cannot be parsed. A wakeup
too many does nothing; one too few is added by the janitor.

RQ forks a child per job as a rule; a fork can use neither a CUDA context nor loaded models, hence `SimpleWorker`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import now as _now
from rq.worker import DequeueStrategy, WorkerStatus
from rq.worker_registration import clean_worker_registry

from workers.engine.stages import RequestStages
from workers.errors import DeviceBroken
from workers.state.connection import is_outage
from workers.state.record import QueueKey

_log = logging.getLogger(__name__)
_RQ_TTL_S: Final = 60
_PUBLISH_EVERY_S: Final = 5
"""The worker's state is written to RQ's keys so often, not at every job: that would be six round trips for each."""
DEVICE_BROKEN: Final = 3
"""Exit status of a worker whose device is broken."""


def _best_effort(step: Callable[..., None]) -> Callable[..., None]:
    """RQ's own records of its workers serve its tools only: if Redis fails, the worker goes on without."""

    def attempt(*args: Any, **options: Any) -> None:
        try:
            step(*args, **options)
        except RedisError as error:
            _log.debug("RQ's %s failed: %s", step.__name__, error)

    return attempt


class Wakeup(Job):
    """What RQ's loop gets for a wakeup; its `name` is all there is of it."""

    def __init__(self, name: bytes, redis: Redis) -> None:
        super().__init__(connection=redis, serializer=JSONSerializer)
        self.name = name


class WakeupQueue(Queue):
    """The RQ queue of wakeups for the requests of one queue key."""

    def __init__(self, slug: str, variant: str, redis: Redis) -> None:
        super().__init__(f"facelight-{slug}-{variant}", connection=redis, serializer=JSONSerializer)
        self.queue_key: QueueKey = (slug, variant)

    @classmethod
    def dequeue_any(  # type: ignore[override]  # RQ calls it with names for all but the first two
        cls, queues: Sequence[Queue], timeout: int | None, connection: Redis, **_unused: Any
    ) -> tuple[Job, Queue] | None:
        """Pop a wakeup from the first of the queues that has one; for RQ's loop.

        Blocks for `timeout` seconds and raises RQ's `DequeueTimeout`; with None it does not block and returns None.
        """
        by_key = {queue.key: queue for queue in queues}
        try:
            found = cls.lpop(list(by_key), timeout, connection=connection)
        except RedisError as error:  # RQ's loop retries after a connection error, and ends after any other
            if is_outage(error):
                raise RedisConnectionError(str(error)) from error
            raise
        if found is None:
            return None
        key, name = (word if isinstance(word, bytes) else word.encode() for word in found)
        return Wakeup(name, connection), by_key[key.decode()]


class RequestWorker(SimpleWorker):
    """RQ's loop around the stages, which serve once for every wakeup, whatever job it may name.

    RQ writes nothing about the job itself: the request's record holds all of it, and what is not written cannot fail.
    """

    queue_class = WakeupQueue  # type: ignore[assignment]  # RQ creates none, it is given them
    max_connection_wait_time = 5.0
    dequeue_timeout = _PUBLISH_EVERY_S
    connection_timeout = dequeue_timeout + 3

    check_for_suspension = _best_effort(SimpleWorker.check_for_suspension)
    register_birth = _best_effort(SimpleWorker.register_birth)
    register_death = _best_effort(SimpleWorker.register_death)
    run_maintenance_tasks = _best_effort(SimpleWorker.run_maintenance_tasks)
    set_shutdown_requested_date = _best_effort(SimpleWorker.set_shutdown_requested_date)

    def __init__(self, stages: RequestStages, redis: Redis, job_timeout_s: int = 0, **options: Any) -> None:
        super().__init__(
            [WakeupQueue(*queue_key, redis) for queue_key in stages.prepare.queue_keys],
            connection=redis,
            serializer=JSONSerializer,
            log_job_description=False,
            worker_ttl=_RQ_TTL_S,
            **options,
        )
        self._stages = stages
        self._ttl_s = job_timeout_s + _RQ_TTL_S
        self._next_publish_at = 0.0
        self.exit_status = 0

    def serve(self, burst: bool = False) -> int:
        """Serve until SIGTERM, or with `burst` until all queues are empty; returns the exit status."""
        self.work(burst=burst, logging_level="WARNING", dequeue_strategy=DequeueStrategy.ROUND_ROBIN)
        return self.exit_status

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Serve the queue that the wakeup was taken from, and then all others."""
        assert isinstance(queue, WakeupQueue)
        assert isinstance(job, Wakeup)
        self.set_state(WorkerStatus.BUSY)  # from here on SIGTERM waits for the requests in flight
        try:
            for _ in self._stages.serve(queue.queue_key, job.name):
                self.heartbeat()
        except DeviceBroken as error:
            _log.critical("the device is broken, this process ends: %s", error)
            self.exit_status = DEVICE_BROKEN
            self._stop_requested = True
        except RedisError:
            _log.exception("no request could be claimed")
        self._ordered_queues = sorted(self._ordered_queues, key=self._priority)
        self.set_state(WorkerStatus.IDLE)

    def _priority(self, queue: Queue) -> int:
        assert isinstance(queue, WakeupQueue)
        return self._stages.prepare.queue_keys.index(queue.queue_key)

    def handle_warm_shutdown_request(self) -> None:
        """SIGTERM: claim nothing more."""
        self._stages.stop_claiming()

    def set_state(self, state: str, *_args: Any, **_options: Any) -> None:
        """Keep the state; it is written with the next heartbeat."""
        self._state = state

    def heartbeat(self, *_args: Any, **_options: Any) -> None:
        """Write this worker's state to RQ's keys, at most every `_PUBLISH_EVERY_S`."""
        if time.monotonic() >= self._next_publish_at:
            self._next_publish_at = time.monotonic() + _PUBLISH_EVERY_S
            self._publish_rq_state()

    @_best_effort
    def _publish_rq_state(self) -> None:
        super().heartbeat(self._ttl_s)
        super().set_state(self._state)

    def clean_registries(self) -> None:
        """Remove dead workers from RQ's registry; RQ writes nothing else that could remain."""
        for queue in self.queues:
            clean_worker_registry(queue)
        self.last_cleaned_at = _now()  # type: ignore[assignment]  # RQ does not declare its type

    def subscribe(self) -> None:
        """Subscribe to no commands: RQ's are for jobs in child processes."""
