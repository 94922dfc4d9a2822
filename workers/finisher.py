"""The last stage: pictures are encoded and stored, and the request completes."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event
from typing import Final

from models.images import MEDIA_TYPES
from models.params import CommonParams
from models.pipeline import Pixels
from workers.drawing import Drawn
from workers.endings import Endings
from workers.errors import StoreUnavailable
from workers.job import Allowance
from workers.records import Output
from workers.store import Store

_FILES_OUTLIVE_RECORD_S: Final = 1.0


@dataclass(frozen=True)
class Finisher:
    """Finishes requests, several at a time: what takes long is to wait for the disk. May be called by any thread."""

    store: Store
    endings: Endings
    allowance: Allowance
    result_ttl_s: int

    def __call__(self, drawn: Drawn, before: Event, ended: Event) -> None:
        """Finish one. It completes after the one `before` has, and tells that it `ended` before it tidies up."""
        try:
            self._finish(drawn, before, ended)
        finally:
            ended.set()

    def _finish(self, drawn: Drawn, before: Event, ended: Event) -> None:
        job, progress = drawn.job, drawn.job.progress
        if self.endings.is_over(progress):
            return
        try:
            with self.allowance.stage([progress]):
                outputs = self._keep(job.params, job.pipeline.finish(job.params, drawn.pixels), drawn.pixels)
        except Exception as error:  # noqa: BLE001 - a defect in a model must not end the worker
            self.endings.fail(progress, error)
            return
        before.wait()
        completed = self.endings.complete(progress, outputs)
        ended.set()
        self.endings.tidy(progress.record, completed, outputs)

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
            self.endings.drop(output.name for output in outputs)
            raise
        return tuple(outputs)
