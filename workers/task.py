"""The one job there is: take a request from the queue to its pictures in the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from models.catalog import MODELS
from models.errors import InputRefused
from models.images import MEDIA_TYPES
from models.params import CommonParams
from models.pipeline import Pipeline, Pixels
from workers.accidents import free_device_memory, is_broken_device, is_out_of_memory
from workers.connection import insist
from workers.errors import Cancelled, DeadlineExceeded, DeviceBroken, StoreUnavailable
from workers.records import Output, Record, Records
from workers.reporter import Progress, Reporter
from workers.scripts import CANCELLED
from workers.store import Store
from workers.watchdog import GRACE_S, process_ends_after

_log = logging.getLogger(__name__)
_FILES_OUTLIVE_RECORD_S: Final = 1.0


@dataclass(frozen=True)
class Task:
    """Serves one request after another with pipelines that stay loaded. Called with what a token stands for."""

    worker: str
    records: Records
    store: Store
    pipelines: Mapping[str, Pipeline[Any, Any]]
    reporter: Reporter
    result_ttl_s: int
    timeout_s: int

    def __call__(self, slug: str, variant: str) -> None:
        """Serve the request whose turn it is, if any waits. Only its record tells how it ended.

        Raises `DeviceBroken`; the request is left to be tried again by another process then.
        """
        record = insist(lambda: self.records.take(slug, variant, self.worker))
        if record is None:
            _log.debug("nobody waits for %s %s", slug, variant)
            return
        with self.reporter.following(record) as progress:
            self._serve(record, progress)
        ended = insist(lambda: self.records.get(record.request_id))
        if ended is None or ended.status.is_final:
            self._drop(record.stored_images.values())

    def _serve(self, record: Record, progress: Progress) -> None:
        began = time.monotonic()
        try:
            with process_ends_after(self.timeout_s + GRACE_S, record.request_id):
                outputs = self._generate(record, progress, began + self.timeout_s)
        except (InputRefused, DeadlineExceeded, Cancelled) as refusal:
            self._fail(record, str(refusal), began)
        except StoreUnavailable as outage:
            _log.error("%s failed, for the result store did: %s", record.request_id, outage)
            self._fail(record, "The result store cannot be used. Try again later.", began)
        except Exception as error:  # a defect in a model must not end the worker
            if is_broken_device(error):
                raise DeviceBroken(str(error)) from error
            _log.exception("%s failed", record.request_id)
            self._fail(record, _sentence(error), began)
        else:
            self._complete(record, outputs, began)

    def _generate(self, record: Record, progress: Progress, deadline: float) -> tuple[Output, ...]:
        params = MODELS[record.slug].params.model_validate(record.params)
        pipeline, inputs = self.pipelines[record.slug], self._inputs(record)

        def on_step(step: int, total: int) -> None:
            progress.step, progress.total = step, total
            self._check(progress, deadline)

        def paint() -> Pixels:
            self._check(progress, deadline)
            return pipeline.run(pipeline.prepare(params, inputs), on_step)

        try:
            pixels = paint()
        except Exception as error:  # torch is not imported here, so its class has no name; others pass on
            if not is_out_of_memory(error):
                raise
            pixels = None
        if pixels is None:  # only now nothing refers to the stack, and what it held, any more
            _log.warning("%s ran out of device memory; it is tried once more", record.request_id)
            free_device_memory()
            pixels = paint()
        return self._keep(params, pipeline.finish(params, pixels), pixels)

    def _check(self, progress: Progress, deadline: float) -> None:
        if progress.cancelled:
            raise Cancelled(CANCELLED)
        if time.monotonic() > deadline:
            at = f"step {progress.step} of {progress.total}" if progress.total else "before the first step"
            raise DeadlineExceeded(f"The request took longer than {self.timeout_s} s ({at}).")

    def _inputs(self, record: Record) -> dict[str, bytes]:
        files = {field: self.store.read(name) for field, name in record.stored_images.items()}
        if missing := [name for name, data in files.items() if data is None]:
            raise InputRefused(f"{missing[0]} has expired before the request was served.")
        return {name: data for name, data in files.items() if data is not None}

    def _keep(self, params: CommonParams, files: list[bytes], pixels: Pixels) -> tuple[Output, ...]:
        """Store all pictures, or none."""
        height, width = pixels.shape[1:3]
        media_type, ttl_s = MEDIA_TYPES[params.output_format], self.result_ttl_s + _FILES_OUTLIVE_RECORD_S
        outputs: list[Output] = []
        try:
            for file in files:
                name = self.store.put(file, params.output_format, ttl_s)
                outputs.append(Output(name, media_type, len(file), width, height))
        except StoreUnavailable:
            self._drop(output.name for output in outputs)
            raise
        return tuple(outputs)

    def _complete(self, record: Record, outputs: tuple[Output, ...], began: float) -> None:
        seconds = time.monotonic() - began
        if insist(lambda: self.records.complete(record, outputs, seconds)):
            _log.info("%s completed in %.2f s", record.request_id, seconds)
        else:
            _log.warning("%s was cancelled, or given to another worker, in its %.2f s", record.request_id, seconds)
            self._drop(output.name for output in outputs)

    def _fail(self, record: Record, error: str, began: float) -> None:
        _log.info("%s failed: %s", record.request_id, error)
        seconds = time.monotonic() - began
        insist(lambda: self.records.fail(record, error, seconds))

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            self.store.drop(name)


def _sentence(error: Exception) -> str:
    if is_out_of_memory(error):
        return "The GPU has not enough memory for this request."
    return "The model failed on this request."
