"""The stages of a worker, put together for a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from models.pipeline import Pipeline
from workers.engine.progress import Reporter
from workers.engine.stages import RequestStages
from workers.engine.watchdog import Watchdog
from workers.engine.worker import build_stages
from workers.metrics.events import NOT_COUNTED, WorkerEvents
from workers.settings import WorkerSettings
from workers.state.records import Records
from workers.store.base import Store

PLACE = ("ic-light", "foreground")


@contextmanager
def stages(
    records: Records,
    store: Store,
    pipelines: Mapping[str, Pipeline[Any, Any]],
    timeout_s: int = 60,
    max_batch: int = 4,
    events: WorkerEvents = NOT_COUNTED,
) -> Iterator[tuple[RequestStages, Reporter]]:
    """A worker's stages with threads of their own, which end with the block; everything is published by then."""
    settings = WorkerSettings().model_copy(update={"job_timeout_s": timeout_s, "max_batch": max_batch})
    reporter, watchdog = Reporter(records, interval_s=0.01), Watchdog()
    reporter.start()
    watchdog.start()
    try:
        with closing(
            build_stages("worker-a", settings, pipelines, records, store, reporter, watchdog, events)
        ) as engine:
            yield engine, reporter
    finally:
        watchdog.stop()
        reporter.stop()
