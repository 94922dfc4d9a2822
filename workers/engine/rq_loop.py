"""RQ's work loop, which calls the stages for every wake-up.

RQ forks a child per job as a rule; a fork can use neither a CUDA context nor loaded models, hence `SimpleWorker`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import now as _now
from rq.worker import WorkerStatus
from rq.worker_registration import clean_worker_registry

from workers.engine.stages import RequestStages
from workers.errors import DeviceBroken
from workers.state.queue import JobQueue, Token, TokenQueue

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


class RequestWorker(SimpleWorker):
    """RQ's loop around the stages, which serve once for every wake-up, whatever job it may name.

    RQ writes nothing about the job itself: the request's record holds all of it, and what is not written cannot fail.
    """

    queue_class = TokenQueue  # type: ignore[assignment]  # RQ creates none, it is given them
    max_connection_wait_time = 5.0
    dequeue_timeout = _PUBLISH_EVERY_S
    connection_timeout = dequeue_timeout + 3

    check_for_suspension = _best_effort(SimpleWorker.check_for_suspension)
    register_birth = _best_effort(SimpleWorker.register_birth)
    register_death = _best_effort(SimpleWorker.register_death)
    run_maintenance_tasks = _best_effort(SimpleWorker.run_maintenance_tasks)
    set_shutdown_requested_date = _best_effort(SimpleWorker.set_shutdown_requested_date)

    def __init__(self, stages: RequestStages, redis: Redis, job_timeout_s: int = 0, **options: Any) -> None:
        jobs = JobQueue(redis, _RQ_TTL_S)
        super().__init__(
            [jobs.queue_of(*queue_key) for queue_key in stages.prepare.queue_keys],
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

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Serve the queue that the wake-up was taken from, and then all others."""
        assert isinstance(queue, TokenQueue)
        assert isinstance(job, Token)
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
        assert isinstance(queue, TokenQueue)
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
        """Remove dead workers from RQ's registry; RQ writes nothing else that could be left behind."""
        for queue in self.queues:
            clean_worker_registry(queue)
        self.last_cleaned_at = _now()  # type: ignore[assignment]  # RQ does not declare its type

    def subscribe(self) -> None:
        """Subscribe to no commands: RQ's are for jobs in child processes."""
