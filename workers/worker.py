"""The worker process: loads its models once, then serves one job at a time in this very process.

RQ forks a child per job as a rule; a fork can use neither a CUDA context nor loaded models, hence `SimpleWorker`.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import DequeueStrategy

from workers.connection import connect
from workers.heartbeat import Heartbeat
from workers.loading import LoadedModels
from workers.presence import Presence
from workers.queue import JobQueue, RequestJob
from workers.records import Records
from workers.settings import WorkerSettings
from workers.store import open_store
from workers.task import Task

_log = logging.getLogger(__name__)


class RequestWorker(SimpleWorker):
    """An RQ worker whose every job is `task`, whatever function the job may name."""

    job_class = RequestJob
    max_connection_wait_time = 5.0

    def __init__(self, queues: list[Queue], task: Task, **options: Any) -> None:
        super().__init__(queues, serializer=JSONSerializer, log_job_description=False, **options)
        self._task = task

    def perform_job(self, job: Job, queue: Queue) -> bool:
        """Bind the task to the job, then let RQ run it."""
        job.task = self._task  # type: ignore[attr-defined]
        return bool(super().perform_job(job, queue))


def serve(settings: WorkerSettings) -> int:
    """Load, then serve until SIGTERM (the job at hand is finished first); returns the exit status."""
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    redis = connect(settings.redis_url)
    models = LoadedModels(name, settings)
    heartbeat = Heartbeat(Presence(redis, settings.heartbeat_ttl_s), models.report, settings.heartbeat_ttl_s / 4)
    heartbeat.start()
    try:
        models.load(on_change=heartbeat.beat)
        if not models.pipelines:
            _log.error("no model could be loaded")
            return 1
        _work(name, settings, models, redis)
    finally:
        heartbeat.stop()
    return 0


def _work(name: str, settings: WorkerSettings, models: LoadedModels, redis: Redis) -> None:
    task = Task(
        worker=name,
        records=Records(redis, settings.result_ttl_s, settings.request_ttl_s),
        store=open_store(settings.store_location),
        pipelines=models.pipelines,
        result_ttl_s=settings.result_ttl_s,
        timeout_s=settings.job_timeout_s,
    )
    rq_redis = connect(settings.redis_url)  # of its own: RQ changes its time-outs
    jobs = JobQueue(rq_redis, settings.request_ttl_s)
    queues = [jobs.queue_of(slug, variant) for slug, model in models.pipelines.items() for variant in model.variants]
    worker = RequestWorker(queues, task, name=name, connection=rq_redis, worker_ttl=60)
    worker.work(logging_level="WARNING", dequeue_strategy=DequeueStrategy.ROUND_ROBIN)
