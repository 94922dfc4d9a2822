"""The processes that serving is measured with: `python -m bench.load.roles worker|bare PORT|stock-worker`.

worker        a worker process with fake models, which compute nothing: the prompt is a `Workload`
bare          the smallest FastAPI application that takes the same body, under uvicorn as it comes
stock-worker  RQ's own SimpleWorker, as it comes
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvicorn
from fastapi import FastAPI
from PIL import Image

from models.catalog import MODELS
from models.params import CommonParams
from models.pipeline import OnStep, Pipeline, Pixels
from models.pulid_lightning.params import Params
from workers.settings import WorkerSettings, read_settings
from workers.state.registry import ModelReport, ModelState, WorkerReport

SLUG: Final = "pulid-lightning"
STOCK_QUEUE: Final = "stock"
TRACE: Final = "trace.jsonl"
"""Name of the file in the data folder into which traced requests' stages are written."""
_NOISE: Final = 4.0
_STEPS: Final = 4
_PAINTING_S: Final = 0.08
"""How long a traced run keeps its thread busy without the interpreter, as a GPU would: less than encoding takes."""


class Workload(StrEnum):
    """What a fake model does, by prompt."""

    TINY = "a tiny picture"
    LARGE = "a picture of 2 MB"
    TRACED = "a run of 80 ms, its result known already"
    ENCODED = "a run of 80 ms, its result encoded for real"


class FakePipeline(Pipeline[CommonParams, Workload]):
    """A fake model that computes nothing. The files it returns are encoded at the start."""

    def __init__(self, variants: tuple[str, ...], files: Mapping[Workload, bytes], trace: Path) -> None:
        self._variants = variants
        self._files = files
        self._trace = trace
        self._photo = photo(1024)

    @property
    def variants(self) -> tuple[str, ...]:
        """All that the model's parameters know."""
        return self._variants

    def prepare(self, params: Any, images: Mapping[str, bytes]) -> Workload:
        """Read the prompt."""
        assert all(images.values())
        return Workload(params.prompt)

    def batch_key(self, prepared: Workload) -> Hashable:
        """Whatever asks for the same."""
        return prepared

    def run(self, batch: Sequence[Workload], on_step: OnStep) -> list[Pixels]:
        """Take some steps; the traced ones take their time."""
        with self._traced("run", batch[0]):
            for step in range(1, _STEPS + 1):
                if batch[0] in (Workload.TRACED, Workload.ENCODED):
                    time.sleep(_PAINTING_S / _STEPS)
                on_step(step, _STEPS)
        pixels = self._photo[None] if batch[0] is Workload.ENCODED else self._photo[None, :32, :32]
        return [pixels for _ in batch]

    def finish(self, params: CommonParams, pixels: Pixels) -> list[bytes]:
        """Encode, or return what has been encoded long ago."""
        workload = Workload(params.prompt)  # type: ignore[attr-defined]  # every model's parameters have a prompt
        with self._traced("finish", workload):
            return [self._files[workload]] if workload in self._files else super().finish(params, pixels)

    @contextmanager
    def _traced(self, stage: str, workload: Workload) -> Any:
        """Write down which thread was at what from when to when."""
        begin = time.monotonic()
        yield
        if workload in (Workload.TRACED, Workload.ENCODED):
            note = {"stage": stage, "workload": workload, "thread": threading.get_native_id(), "begin": begin}
            with self._trace.open("a") as file:
                file.write(json.dumps({**note, "end": time.monotonic()}) + "\n")


@cache
def photo(side: int) -> Any:
    """Pixels [side, side, 3] of a real photo with a sensor's noise: 1024 px square make a PNG of about 2 MB."""
    from skimage import data

    astronaut = Image.fromarray(data.astronaut()).resize((side, side), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, _NOISE, (side, side, 3))
    return np.clip(np.asarray(astronaut) + noise, 0, 255).astype(np.uint8)


def png(pixels: Any) -> bytes:
    """Encode a picture as PNG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=3)
    return out.getvalue()


def fake_pipelines(settings: WorkerSettings) -> dict[str, FakePipeline]:
    """A fake in the place of each model that the settings name."""
    files = {Workload.TINY: png(photo(32)), Workload.LARGE: png(photo(1024))}
    files[Workload.TRACED] = files[Workload.LARGE]
    trace = settings.data_dir / TRACE
    return {slug: FakePipeline(MODELS[slug].params.variants, files, trace) for slug in settings.models}


class FakeModels:
    """Takes the place of `LoadedModels`: every model is ready from the start."""

    def __init__(self, worker: str, settings: WorkerSettings) -> None:
        self.pipelines = fake_pipelines(settings)
        ready = {slug: ModelReport(ModelState.READY, variants=each.variants) for slug, each in self.pipelines.items()}
        self._report = WorkerReport(worker, "cpu", ready)

    def report(self) -> WorkerReport:
        """The same at any time."""
        return self._report

    def load(self, on_change: Callable[[], None]) -> None:
        """Load nothing."""
        on_change()


def bare_application() -> FastAPI:
    """One route that validates the same body, and does nothing."""
    app = FastAPI()

    @app.post("/no-op")
    async def no_op(body: Params) -> dict[str, str]:
        return {"prompt": body.prompt}

    return app


def no_op() -> None:
    """The job of the stock worker."""


def _worker() -> None:
    from workers.engine.worker import serve

    sys.exit(serve(read_settings(WorkerSettings), FakeModels))


def _bare(port: str) -> None:
    uvicorn.run(bare_application(), host="127.0.0.1", port=int(port), log_level="warning", access_log=False)


def _stock_worker() -> None:
    from redis import Redis
    from rq import Queue, SimpleWorker

    redis = Redis.from_url(read_settings(WorkerSettings).redis_url)
    SimpleWorker([Queue(STOCK_QUEUE, connection=redis)], connection=redis).work(logging_level="ERROR")


_ROLES: Final[Mapping[str, Callable[..., None]]] = {
    "worker": _worker,
    "bare": _bare,
    "stock-worker": _stock_worker,
}

if __name__ == "__main__":
    _ROLES[sys.argv[1]](*sys.argv[2:])
