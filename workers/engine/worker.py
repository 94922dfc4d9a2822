"""The worker process: loads its models once, then serves requests in this very process."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rq.worker import DequeueStrategy

from models.pipeline import Pipeline
from workers.engine.execute import Drawing
from workers.engine.heartbeat import Heartbeat
from workers.engine.job import Allowance
from workers.engine.model_loader import LoadedModels
from workers.engine.outcome import Endings
from workers.engine.prepare import Intake
from workers.engine.progress import Reporter
from workers.engine.publish import Finisher
from workers.engine.rq_loop import RequestWorker
from workers.engine.stages import Task
from workers.engine.watchdog import Watchdog
from workers.settings import WorkerSettings
from workers.state.connection import SharedClock, connect, connect_blocking, retry_until_available
from workers.state.records import Records
from workers.state.registry import ModelReport, ModelState, WorkerRegistry, WorkerReport
from workers.store.base import Store
from workers.store.open import open_store

_log = logging.getLogger(__name__)
Pipelines = Mapping[str, Pipeline[Any, Any]]


class Models(Protocol):
    """What a worker serves: `LoadedModels`, or whatever takes their place."""

    @property
    def pipelines(self) -> Pipelines:
        """By slug, once `load` has returned."""

    def report(self) -> WorkerReport:
        """State of every model. May be called from another thread."""

    def load(self, on_change: Callable[[], None]) -> None:
        """Get them ready; `on_change` after every change of the report."""


@dataclass(frozen=True)
class ReadyModels:
    """Pipelines that are there already."""

    worker: str
    pipelines: Pipelines

    def report(self) -> WorkerReport:
        """Every model is ready from the start."""
        ready = {slug: ModelReport(ModelState.READY, variants=model.variants) for slug, model in self.pipelines.items()}
        return WorkerReport(self.worker, "cpu", ready)

    def load(self, on_change: Callable[[], None]) -> None:
        """Load nothing."""
        on_change()


def serve(settings: WorkerSettings, models_of: Callable[[str, WorkerSettings], Models] = LoadedModels) -> int:
    """Load, then serve until SIGTERM (what is in hand is finished first); returns the exit status.

    Without a model to serve it stays, and says why in its registry.
    """
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    redis = connect(settings.redis_url)
    models = models_of(name, settings)
    records = Records(redis, settings.result_ttl_s, settings.request_ttl_s)
    reporter, watchdog = Reporter(records), Watchdog()
    heartbeat = Heartbeat(
        WorkerRegistry(redis, settings.heartbeat_ttl_s),
        lambda: replace(models.report(), requests=reporter.request_ids),
        settings.heartbeat_ttl_s / 4,
    )
    with ExitStack() as threads:
        for thread in (heartbeat, reporter, watchdog):
            thread.start()
            threads.callback(thread.stop)
        models.load(on_change=heartbeat.beat)
        if not models.pipelines:
            _log.error("no model could be loaded: start this worker again once what is reported is mended")
            return _wait_for_the_end()
        store = open_store(settings.store_location, SharedClock(records.now))
        task = build_task(name, settings, models.pipelines, records, store, reporter, watchdog)
        with closing(task):
            return _work(name, settings, task)


def _wait_for_the_end() -> int:
    """Report the models' states until SIGTERM or SIGINT; ending would only have a supervisor start it for ever."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    return 0


def serve_pipelines(settings: WorkerSettings, pipelines: Pipelines) -> int:
    """Serve pipelines that are loaded already; see `serve`."""
    return serve(settings, lambda name, _settings: ReadyModels(name, pipelines))


def build_task(
    name: str,
    settings: WorkerSettings,
    pipelines: Pipelines,
    records: Records,
    store: Store,
    reporter: Reporter,
    watchdog: Watchdog,
) -> Task:
    """Put the stages of a worker of that name together; whoever calls closes them."""
    endings, allowance = Endings(records, store, reporter), Allowance(settings.job_timeout_s, watchdog)
    return Task(
        Intake(name, records, store, pipelines, reporter, endings, allowance, settings.max_batch),
        Drawing(endings, allowance),
        Finisher(store, endings, allowance, settings.result_ttl_s),
    )


def _work(name: str, settings: WorkerSettings, task: Task) -> int:
    redis = connect_blocking(settings.redis_url, RequestWorker.connection_timeout)
    worker = retry_until_available(
        lambda: RequestWorker(task, redis, settings.job_timeout_s, name=name)
    )  # RQ asks for its address
    worker.work(logging_level="WARNING", dequeue_strategy=DequeueStrategy.ROUND_ROBIN)
    return worker.exit_status
