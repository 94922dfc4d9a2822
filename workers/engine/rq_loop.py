"""RQ's loop, around the one task that there is.

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

from workers.engine.stages import Task
from workers.errors import DeviceBroken
from workers.state.queue import JobQueue, Token, TokenQueue

_log = logging.getLogger(__name__)
_RQ_TTL_S: Final = 60
_NOTE_EVERY_S: Final = 5
"""RQ is told so often what the worker does, not at every job: that would be six round trips for each."""
DEVICE_BROKEN: Final = 3
"""Exit status of a worker that cannot use its device any more."""


def _for_show(step: Callable[..., None]) -> Callable[..., None]:
    """RQ's notes about its workers, for people who look at RQ: without Redis there are none, and the worker goes on."""

    def attempt(*args: Any, **options: Any) -> None:
        try:
            step(*args, **options)
        except RedisError as error:
            _log.debug("RQ cannot note %s: %s", step.__name__, error)

    return attempt


class RequestWorker(SimpleWorker):
    """RQ's loop around `task`, which is called once for every token, whatever job the token may name.

    RQ writes nothing about the job itself: the request's record says it all, and what is not written cannot fail.
    """

    queue_class = TokenQueue  # type: ignore[assignment]  # RQ makes none, it is given them
    max_connection_wait_time = 5.0
    dequeue_timeout = _NOTE_EVERY_S
    connection_timeout = dequeue_timeout + 3

    check_for_suspension = _for_show(SimpleWorker.check_for_suspension)
    register_birth = _for_show(SimpleWorker.register_birth)
    register_death = _for_show(SimpleWorker.register_death)
    run_maintenance_tasks = _for_show(SimpleWorker.run_maintenance_tasks)
    set_shutdown_requested_date = _for_show(SimpleWorker.set_shutdown_requested_date)

    def __init__(self, task: Task, redis: Redis, job_timeout_s: int = 0, **options: Any) -> None:
        jobs = JobQueue(redis, _RQ_TTL_S)
        super().__init__(
            [jobs.queue_of(*queue_key) for queue_key in task.intake.queue_keys],
            connection=redis,
            serializer=JSONSerializer,
            log_job_description=False,
            worker_ttl=_RQ_TTL_S,
            **options,
        )
        self._task = task
        self._lives_s = job_timeout_s + _RQ_TTL_S
        self._note_at = 0.0
        self.exit_status = 0

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Serve whoever is next in the queue that the token lay in, and then whoever else waits."""
        assert isinstance(queue, TokenQueue)
        assert isinstance(job, Token)
        self.set_state(WorkerStatus.BUSY)  # from here on SIGTERM waits for the end of what is in hand
        try:
            for _ in self._task(queue.queue_key, job.name):
                self.heartbeat()
        except DeviceBroken as error:
            _log.critical("the device is broken, this process ends: %s", error)
            self.exit_status = DEVICE_BROKEN
            self._stop_requested = True
        except RedisError:
            _log.exception("no request could be taken")
        self._ordered_queues = sorted(self._ordered_queues, key=self._turn)
        self.set_state(WorkerStatus.IDLE)

    def _turn(self, queue: Queue) -> int:
        assert isinstance(queue, TokenQueue)
        return self._task.intake.queue_keys.index(queue.queue_key)

    def handle_warm_shutdown_request(self) -> None:
        """SIGTERM: take nothing more."""
        self._task.take_no_more()

    def set_state(self, state: str, *_args: Any, **_options: Any) -> None:
        """Know the state; RQ is told it with the next heartbeat."""
        self._state = state

    def heartbeat(self, *_args: Any, **_options: Any) -> None:
        """Tell RQ of this worker, unless it was told a moment ago."""
        if time.monotonic() >= self._note_at:
            self._note_at = time.monotonic() + _NOTE_EVERY_S
            self._note()

    @_for_show
    def _note(self) -> None:
        super().heartbeat(self._lives_s)
        super().set_state(self._state)

    def clean_registries(self) -> None:
        """Take dead workers off RQ's lists; RQ keeps nothing else that could be left behind."""
        for queue in self.queues:
            clean_worker_registry(queue)
        self.last_cleaned_at = _now()  # type: ignore[assignment]  # RQ does not say what it is

    def subscribe(self) -> None:
        """Listen to no commands: RQ's are for jobs in processes of their own."""
