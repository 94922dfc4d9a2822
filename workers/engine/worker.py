"""The worker process: loads its models once, then serves requests in this very process."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any, NoReturn, Protocol

from models.pipeline import Pipeline
from workers.engine.execute import ExecuteStage
from workers.engine.heartbeat import Heartbeat
from workers.engine.model_loader import LoadedModels
from workers.engine.outcome import Completion
from workers.engine.prepare import PrepareStage
from workers.engine.progress import Reporter, TimeBudget
from workers.engine.publish import PublishStage
from workers.engine.rq_loop import RequestWorker
from workers.engine.stages import RequestStages
from workers.engine.watchdog import Watchdog
from workers.metrics.events import NOT_COUNTED, WorkerEvents
from workers.settings import WorkerSettings
from workers.state.connection import SharedClock, connect, connect_blocking, retry_until_available
from workers.state.records import Records
from workers.state.registry import WorkerRegistry, WorkerReport
from workers.store.base import Store
from workers.store.open import open_store

_log = logging.getLogger(__name__)
Pipelines = Mapping[str, Pipeline[Any, Any]]


class Models(Protocol):
    """The models of a worker: `LoadedModels`, or a fake in tests and benchmarks."""

    @property
    def pipelines(self) -> Pipelines:
        """By slug, once `load` has returned."""

    def report(self) -> WorkerReport:
        """State of every model. May be called from another thread."""

    def load(self, on_change: Callable[[], None]) -> None:
        """Load and warm up all models; calls `on_change` after every change of the report."""


def serve(settings: WorkerSettings, models_of: Callable[[str, WorkerSettings], Models] = LoadedModels) -> int:
    """Load, then serve until SIGTERM (requests in flight are finished first); returns the exit status.

    Without a model to serve it goes on beating, and its reports in the registry say why.
    """
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    redis = connect(settings.redis_url)
    models = models_of(name, settings)
    records = Records(redis, settings.result_ttl_s, settings.request_ttl_s)
    clock = SharedClock(records.now)
    reporter, watchdog = Reporter(records), Watchdog()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    with ExitStack() as threads:
        events = threads.enter_context(_counted(settings, models, clock)) if settings.metrics_port else NOT_COUNTED
        heartbeat = Heartbeat(
            WorkerRegistry(redis, settings.heartbeat_ttl_s),
            lambda: replace(models.report(), requests=reporter.request_ids),
            settings.heartbeat_ttl_s / 4,
            events,
        )
        for thread in (heartbeat, reporter, watchdog):
            # In this order: a signal may come while the thread starts, when the heartbeat has been written already.
            threads.callback(thread.stop)
            thread.start()
        models.load(on_change=heartbeat.beat)
        if not models.pipelines:
            _log.error("no model could be loaded: restart this worker once the cause is fixed")
            threading.Event().wait()  # a process that ends by itself would be restarted for ever by its supervisor
        store = open_store(settings.store_location, clock)
        stages = build_stages(name, settings, models.pipelines, records, store, reporter, watchdog, events)
        with closing(stages):
            return _work(name, settings, stages)


@contextmanager
def _counted(settings: WorkerSettings, models: Models, clock: Callable[[], float]) -> Iterator[WorkerEvents]:
    """Count what happens, and tell Prometheus for as long as the block lasts. Raises `SettingsError`."""
    from workers.metrics.endpoint import new_registry, serving  # 30 ms, for those that are scraped
    from workers.metrics.worker import GpuMemory, WorkerMetrics

    registry = new_registry()
    GpuMemory(registry, lambda: models.report().device)
    with serving(settings, registry):
        yield WorkerMetrics(registry, settings.models, clock)


def _exit(*_: object) -> NoReturn:
    """End this worker while it holds no request: RQ's loop replaces these signal handlers by its own."""
    raise SystemExit(0)


def build_stages(
    name: str,
    settings: WorkerSettings,
    pipelines: Pipelines,
    records: Records,
    store: Store,
    reporter: Reporter,
    watchdog: Watchdog,
    events: WorkerEvents = NOT_COUNTED,
) -> RequestStages:
    """Build the stages of the worker `name`; the caller closes them."""
    completion, time_budget = Completion(records, store, reporter, events), TimeBudget(settings.job_timeout_s, watchdog)
    return RequestStages(
        PrepareStage(name, records, store, pipelines, reporter, completion, time_budget, settings.max_batch, events),
        ExecuteStage(completion, time_budget, events),
        PublishStage(store, completion, time_budget, settings.result_ttl_s),
    )


def _work(name: str, settings: WorkerSettings, stages: RequestStages) -> int:
    redis = connect_blocking(settings.redis_url, RequestWorker.connection_timeout)
    # RQ's constructor asks Redis for the client's address.
    worker = retry_until_available(lambda: RequestWorker(stages, redis, settings.job_timeout_s, name=name))
    return worker.serve()
