"""The first stage: requests are taken from the queue and prepared, on any thread but for `run` alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.catalog import MODELS
from models.errors import InputRefused
from models.pipeline import Pipeline
from workers.engine.device_errors import free_device_memory, is_out_of_memory
from workers.engine.job import Allowance, Job
from workers.engine.outcome import Endings
from workers.engine.progress import Progress, Reporter
from workers.state.connection import retry_until_available
from workers.state.record import QueueKey, Record
from workers.state.records import Records
from workers.state.scripts import new_call_id
from workers.store.base import Store

_log = logging.getLogger(__name__)


@dataclass
class Intake:
    """Takes what one worker can serve; called by one thread at a time."""

    worker: str
    records: Records
    store: Store
    pipelines: Mapping[str, Pipeline[Any, Any]]
    reporter: Reporter
    endings: Endings
    allowance: Allowance
    max_batch: int
    queue_keys: list[QueueKey] = field(init=False)
    """Where to look for requests, in turn: where one was found is looked at last."""

    def __post_init__(self) -> None:
        self.queue_keys = [(slug, variant) for slug, model in self.pipelines.items() for variant in model.variants]

    def take(self, queue_key: QueueKey, token: bytes) -> list[Job]:
        """Take who is next at a queue_key from which the worker holds a token; nobody, if nobody waits."""
        return self._take([queue_key], token, only_new=False)

    def take_more(self, only_new: bool) -> list[Job]:
        """Take who is next anywhere, unless another worker has been called already.

        `only_new`: not a request that was tried before; it is to be alone in its worker.
        """
        return self._take(self.queue_keys, b"", only_new)

    def _take(self, queue_keys: Sequence[QueueKey], token: bytes, only_new: bool) -> list[Job]:
        call = new_call_id()
        taken = retry_until_available(
            lambda: self.records.claim_batch(queue_keys, self.worker, call, self.max_batch, token, only_new)
        )
        # All of them before anything else: from here on the heartbeat tells who is in hand.
        followed = [self.reporter.follow(record) for record in taken]
        if followed:
            self._turn(taken[0])
        return [job for progress in followed if (job := self._prepare(progress)) is not None]

    def _turn(self, record: Record) -> None:
        queue_key = (record.slug, record.variant)
        if queue_key in self.queue_keys:
            self.queue_keys = [other for other in self.queue_keys if other != queue_key] + [queue_key]

    def _prepare(self, progress: Progress) -> Job | None:
        """Prepare a request, twice if memory runs out; None if it has ended by that."""
        try:
            with self.allowance.stage([progress]):
                try:
                    return self._prepared(progress)
                except Exception as error:  # torch is not imported here, so its class has no name; others pass on
                    if not is_out_of_memory(error):
                        raise
                # Only now nothing refers to the stack, and what it held, any more.
                _log.warning("%s ran out of device memory; it is tried once more", progress.record.request_id)
                free_device_memory()
                return self._prepared(progress)
        except Exception as error:  # noqa: BLE001 - a defect in a model must not end the worker
            self.endings.fail(progress, error)
            return None

    def _prepared(self, progress: Progress) -> Job:
        record = progress.record
        pipeline = self.pipelines[record.slug]
        params = MODELS[record.slug].params.model_validate(record.params)
        prepared = pipeline.prepare(params, self._inputs(record))
        return Job(progress, pipeline, params, prepared, pipeline.batch_key(prepared))

    def _inputs(self, record: Record) -> dict[str, bytes]:
        files = {field: self.store.read(name) for field, name in record.stored_images.items()}
        if missing := [name for name, data in files.items() if data is None]:
            raise InputRefused(f"{missing[0]} has expired before the request was served.")
        return {name: data for name, data in files.items() if data is not None}
