"""The one job there is: take a request from its record to its pictures in the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from models.catalog import MODELS
from models.errors import InputRefused
from models.images import MEDIA_TYPES
from models.params import CommonParams
from models.pipeline import Pipeline
from workers.connection import insist
from workers.errors import DeadlineExceeded, StoreUnavailable
from workers.records import Output, Record, Records
from workers.store import Store

_log = logging.getLogger(__name__)
_FILES_OUTLIVE_RECORD_S = 1.0


@dataclass(frozen=True)
class Task:
    """Serves one request after another with pipelines that stay loaded. Called with a request's id."""

    worker: str
    records: Records
    store: Store
    pipelines: Mapping[str, Pipeline[Any, Any]]
    result_ttl_s: int
    timeout_s: int

    def __call__(self, request_id: str) -> None:
        """Serve the request, unless another worker has it or had it. Only the record tells how it ended."""
        record = self.records.start(request_id, self.worker)
        if record is None:
            _log.info("%s is not waiting any more", request_id)
            return
        began = time.monotonic()
        try:
            outputs = self._generate(record, began + self.timeout_s)
        except (InputRefused, DeadlineExceeded) as refusal:
            ended = self._fail(record, str(refusal), began)
        except StoreUnavailable as outage:
            _log.error("%s failed, for the result store did: %s", request_id, outage)
            ended = self._fail(record, "The result store cannot be used. Try again later.", began)
        except Exception:  # noqa: BLE001 - a defect in a model must not end the worker
            _log.exception("%s failed", request_id)
            ended = self._fail(record, "The model failed on this request.", began)
        else:
            ended = self._complete(record, outputs, began)
        if ended:
            self._drop(_stored_images(record).values())

    def _generate(self, record: Record, deadline: float) -> tuple[Output, ...]:
        params = MODELS[record.slug].params.model_validate(record.params)
        pipeline = self.pipelines[record.slug]

        def on_step(step: int, total: int) -> None:
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"The request took longer than {self.timeout_s} s (step {step} of {total}).")

        prepared = pipeline.prepare(params, self._inputs(record))
        pixels = pipeline.run(prepared, on_step)
        height, width = pixels.shape[1:3]
        return tuple(self._keep(params, file, width, height) for file in pipeline.finish(params, pixels))

    def _inputs(self, record: Record) -> dict[str, bytes]:
        files = {field: self.store.read(name) for field, name in _stored_images(record).items()}
        if missing := [name for name, data in files.items() if data is None]:
            raise InputRefused(f"{missing[0]} has expired before the request was served.")
        return {name: data for name, data in files.items() if data is not None}

    def _keep(self, params: CommonParams, file: bytes, width: int, height: int) -> Output:
        name = self.store.put(file, params.output_format, self.result_ttl_s + _FILES_OUTLIVE_RECORD_S)
        return Output(name, MEDIA_TYPES[params.output_format], len(file), width, height)

    def _complete(self, record: Record, outputs: tuple[Output, ...], began: float) -> bool:
        seconds = time.monotonic() - began
        if insist(lambda: self.records.complete(record, outputs, seconds)):
            _log.info("%s completed in %.2f s", record.request_id, seconds)
            return True
        _log.warning("%s was given to another worker after %.2f s", record.request_id, seconds)
        self._drop(output.name for output in outputs)
        return False

    def _fail(self, record: Record, error: str, began: float) -> bool:
        _log.info("%s failed: %s", record.request_id, error)
        return insist(lambda: self.records.fail(record, error, time.monotonic() - began))

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            self.store.drop(name)


def _stored_images(record: Record) -> dict[str, str]:
    """Names in the store of the request's pictures, by field; optional fields may have none."""
    fields = MODELS[record.slug].params.image_fields
    return {field: name for field in fields if (name := record.params.get(field)) is not None}
