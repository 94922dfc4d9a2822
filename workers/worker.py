"""The worker process: loads its models once, then serves one request at a time in this very process.

RQ forks a child per job as a rule; a fork can use neither a CUDA context nor loaded models, hence `SimpleWorker`.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import now as _now
from rq.worker import DequeueStrategy, WorkerStatus
from rq.worker_registration import clean_worker_registry

from workers.clock import SharedClock
from workers.connection import connect
from workers.errors import DeviceBroken
from workers.heartbeat import Heartbeat
from workers.loading import LoadedModels
from workers.presence import Presence
from workers.queue import JobQueue, TokenQueue
from workers.records import Records
from workers.reporter import Reporter
from workers.settings import WorkerSettings
from workers.stores import open_store
from workers.task import Task

_log = logging.getLogger(__name__)
_RQ_TTL_S: Final = 60
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

    check_for_suspension = _for_show(SimpleWorker.check_for_suspension)
    heartbeat = _for_show(SimpleWorker.heartbeat)
    register_birth = _for_show(SimpleWorker.register_birth)
    register_death = _for_show(SimpleWorker.register_death)
    set_state = _for_show(SimpleWorker.set_state)
    run_maintenance_tasks = _for_show(SimpleWorker.run_maintenance_tasks)

    def __init__(self, queues: Sequence[TokenQueue], task: Task, **options: Any) -> None:
        super().__init__(
            list(queues), serializer=JSONSerializer, log_job_description=False, worker_ttl=_RQ_TTL_S, **options
        )
        self._task = task
        self.exit_status = 0

    def execute_job(self, _job: Job, queue: Queue) -> None:
        """Serve whoever is next in the queue that the token lay in."""
        assert isinstance(queue, TokenQueue)
        self.set_state(WorkerStatus.BUSY)  # from here on SIGTERM waits for the end of the job
        self.heartbeat(self._task.timeout_s + _RQ_TTL_S)
        try:
            self._task(queue.slug, queue.variant)
        except DeviceBroken as error:
            _log.critical("the device is broken, this process ends: %s", error)
            self.exit_status = DEVICE_BROKEN
            self._stop_requested = True
        except Exception:  # noqa: BLE001 - one request that cannot even fail must not end the worker
            _log.exception("a request could not be served")
        self.set_state(WorkerStatus.IDLE)

    def clean_registries(self) -> None:
        """Take dead workers off RQ's lists; RQ keeps nothing else that could be left behind."""
        for queue in self.queues:
            clean_worker_registry(queue)
        self.last_cleaned_at = _now()  # type: ignore[assignment]  # RQ does not say what it is

    def subscribe(self) -> None:
        """Listen to no commands: RQ's are for jobs in processes of their own."""


def serve(settings: WorkerSettings) -> int:
    """Load, then serve until SIGTERM (the job at hand is finished first); returns the exit status."""
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    redis = connect(settings.redis_url)
    models = LoadedModels(name, settings)
    records = Records(redis, settings.result_ttl_s, settings.request_ttl_s)
    reporter = Reporter(records)
    heartbeat = Heartbeat(
        Presence(redis, settings.heartbeat_ttl_s),
        lambda: replace(models.report(), request=reporter.request_id),
        settings.heartbeat_ttl_s / 4,
    )
    heartbeat.start()
    reporter.start()
    try:
        models.load(on_change=heartbeat.beat)
        if not models.pipelines:
            _log.error("no model could be loaded")
            return 1
        return _work(name, settings, models, records, reporter)
    finally:
        reporter.stop()
        heartbeat.stop()


def _work(name: str, settings: WorkerSettings, models: LoadedModels, records: Records, reporter: Reporter) -> int:
    task = Task(
        worker=name,
        records=records,
        store=open_store(settings.store_location, SharedClock(records.now)),
        pipelines=models.pipelines,
        reporter=reporter,
        result_ttl_s=settings.result_ttl_s,
        timeout_s=settings.job_timeout_s,
    )
    rq_redis = connect(settings.redis_url)  # of its own: RQ changes its time-outs
    jobs = JobQueue(rq_redis, settings.request_ttl_s)
    queues = [jobs.queue_of(slug, variant) for slug, model in models.pipelines.items() for variant in model.variants]
    worker = RequestWorker(queues, task, name=name, connection=rq_redis)
    worker.work(logging_level="WARNING", dequeue_strategy=DequeueStrategy.ROUND_ROBIN)
    return worker.exit_status
