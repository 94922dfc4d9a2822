"""The first stage: requests are claimed from the queue and prepared, on the prefetch thread or the main one."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.catalog import MODELS
from models.errors import InputRefused
from models.params import CommonParams
from models.pipeline import Pipeline
from workers.engine.device_errors import free_device_memory, is_out_of_memory
from workers.engine.outcome import Completion
from workers.engine.progress import Progress, Reporter, TimeBudget
from workers.logs import request_context
from workers.metrics.events import NOT_COUNTED, WorkerEvents
from workers.state.connection import retry_until_available
from workers.state.record import QueueKey
from workers.state.records import Records
from workers.state.scripts import new_call_id
from workers.store.base import Store

_log = logging.getLogger(__name__)


@dataclass(eq=False, frozen=True)
class PreparedRequest:
    """A request that was claimed and prepared; those of one pipeline and batch key can be executed together."""

    progress: Progress
    pipeline: Pipeline[Any, Any]
    params: CommonParams
    prepared: Any
    batch_key: Hashable

    @property
    def is_first_attempt(self) -> bool:
        """Whether no worker has died while it was in flight."""
        return self.progress.record.attempt <= 1


@dataclass
class PrepareStage:
    """Claims what one worker can serve, and prepares it; called by one thread at a time."""

    worker: str
    records: Records
    store: Store
    pipelines: Mapping[str, Pipeline[Any, Any]]
    reporter: Reporter
    completion: Completion
    time_budget: TimeBudget
    max_batch: int
    events: WorkerEvents = NOT_COUNTED
    queue_keys: list[QueueKey] = field(init=False)
    """The queues in the order in which they are tried: round robin, the one last claimed from is last."""

    def __post_init__(self) -> None:
        self.queue_keys = [(slug, variant) for slug, model in self.pipelines.items() for variant in model.variants]

    def claim(self, queue_key: QueueKey, wakeup: bytes) -> list[PreparedRequest]:
        """Claim from the queue whose wakeup the worker has taken; nothing if no request waits there."""
        return self._claim([queue_key], wakeup, first_attempt_only=False)

    def claim_any(self, first_attempt_only: bool) -> list[PreparedRequest]:
        """Claim from the first queue with a request for which no other worker has been notified.

        `first_attempt_only`: no request that was tried before; such a one must be alone in its worker.
        """
        return self._claim(self.queue_keys, b"", first_attempt_only)

    def _claim(self, queue_keys: Sequence[QueueKey], wakeup: bytes, first_attempt_only: bool) -> list[PreparedRequest]:
        """Claim a batch of one queue and prepare each request; one that cannot be prepared is FAILED."""
        call = new_call_id()
        claimed = retry_until_available(
            lambda: self.records.claim_batch(queue_keys, self.worker, call, self.max_batch, wakeup, first_attempt_only)
        )
        # All of them before preparing any: from here on the heartbeat lists them as this worker's.
        tracked = [self.reporter.track(record, len(claimed)) for record in claimed]
        for record in claimed:
            self.events.claimed(record)
        if claimed and (queue_key := (claimed[0].slug, claimed[0].variant)) in self.queue_keys:
            self.queue_keys = [other for other in self.queue_keys if other != queue_key] + [queue_key]
        prepared = []
        for progress in tracked:
            with request_context(progress.request_id):
                try:
                    with self.time_budget.stage([progress], "prepare"):
                        prepared.append(self._prepare_with_retry(progress))
                except Exception as error:  # noqa: BLE001 - a defect in a model must not end the worker
                    self.completion.fail(progress, error)
        return prepared

    def _prepare_with_retry(self, progress: Progress) -> PreparedRequest:
        """Prepare a request, once more if device memory runs out."""
        try:
            return self._prepare(progress)
        except Exception as error:  # torch is not imported here, so its class has no name; others are raised again
            if not is_out_of_memory(error):
                raise
        # Behind the block: nothing refers to the failed attempt's frames, and the tensors in them, any more.
        _log.warning("out of device memory while preparing, retrying once")
        free_device_memory()
        self.events.retried(progress.record.slug)
        return self._prepare(progress)

    def _prepare(self, progress: Progress) -> PreparedRequest:
        record = progress.record
        pipeline = self.pipelines[record.slug]
        params = MODELS[record.slug].params.model_validate(record.params)
        images = {name: self.store.read(file) for name, file in record.stored_images.items()}
        if missing := [name for name, data in images.items() if data is None]:
            raise InputRefused(f"{missing[0]} has expired before the request was served.")
        prepared = pipeline.prepare(params, {name: data for name, data in images.items() if data is not None})
        return PreparedRequest(progress, pipeline, params, prepared, pipeline.batch_key(prepared))
