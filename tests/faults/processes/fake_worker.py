"""`python -m tests.faults.processes.fake_worker`: a worker process with fake models.

Everything else is real: RQ, the stages, heartbeat, watchdog, store. Starts in half a second, for nothing imports torch
unless a request asks for one of its errors.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from models.catalog import MODELS
from models.params import CommonParams
from models.pipeline import OnStep, Pipeline, Pixels
from tests.faults.behaviour import Behaviour
from tests.faults.processes import fake_clock
from tests.faults.runs import RunLog
from workers.engine.rq_loop import DEVICE_BROKEN
from workers.engine.worker import serve
from workers.logs import configure_logging
from workers.settings import WorkerSettings, read_settings
from workers.state.registry import ModelReport, ModelState, WorkerReport
from workers.traces import start_traces, stop_traces

_SIDE = 16


@dataclass(frozen=True)
class FakeRequest:
    """One request, prepared."""

    behaviour: Behaviour
    seed: int
    pictures: int


class FakePipeline(Pipeline[CommonParams, FakeRequest]):
    """Does what the prompt asks for; paints pictures of one colour, another one in every run."""

    def __init__(self, variants: tuple[str, ...], runs: RunLog) -> None:
        self._variants = variants
        self._runs = runs
        self._denoised_s = 0.0

    @property
    def variants(self) -> tuple[str, ...]:
        """All that the model's parameters know."""
        return self._variants

    def prepare(self, params: Any, images: Mapping[str, bytes]) -> FakeRequest:
        """Read the prompt."""
        return FakeRequest(Behaviour.from_prompt(params.prompt), params.seed, params.number_of_images)

    def batch_key(self, prepared: FakeRequest) -> tuple[int, float]:
        """Requests that take the same steps."""
        return prepared.behaviour.steps, prepared.behaviour.step_ms

    def run(self, batch: Sequence[FakeRequest], on_step: OnStep) -> list[Pixels]:
        """Take the steps, and come to the ends that were asked for; everything is noted as it happens."""
        runs = [self._begin(prepared) for prepared in batch]
        behaviour, began = batch[0].behaviour, time.monotonic()
        for step in range(1, behaviour.steps + 1):
            time.sleep(behaviour.step_ms / 1000)
            if behaviour.step_ms:
                for run in runs:
                    self._runs.note("step", run)
            on_step(step, behaviour.steps)
        self._denoised_s = time.monotonic() - began
        return [self._end(prepared, run) for prepared, run in zip(batch, runs, strict=True)]

    @property
    def stage_intervals(self) -> list[tuple[str, float, float]]:
        """The steps of the last run are one stage."""
        return [("denoise", 0.0, self._denoised_s)]

    def _begin(self, prepared: FakeRequest) -> str:
        run = secrets.token_hex(3)
        self._runs.note("begin", run, label=prepared.behaviour.label, seed=prepared.seed, pid=os.getpid())
        return run

    def _end(self, prepared: FakeRequest, run: str) -> Pixels:
        behaviour = prepared.behaviour
        earlier = self._runs.count(behaviour.label) - 1 if behaviour.on_runs is not None else 0
        if behaviour.on_runs is None or earlier < behaviour.on_runs:
            _ENDINGS.get(behaviour.ending, _finish)()
        self._runs.note("painted", run)
        return np.full((prepared.pictures, _SIDE, _SIDE, 3), tuple(bytes.fromhex(run)), np.uint8)


class FakeModels:
    """Takes the place of `LoadedModels`: the same public names, nothing to load."""

    def __init__(self, worker: str, settings: WorkerSettings) -> None:
        runs = RunLog(settings.data_dir)
        self.pipelines = {slug: FakePipeline(MODELS[slug].params.variants, runs) for slug in settings.models}
        self._report = WorkerReport(worker, "cpu", {slug: _report(self.pipelines[slug]) for slug in self.pipelines})

    def report(self) -> WorkerReport:
        """Every model is ready from the start."""
        return self._report

    def load(self, on_change: Callable[[], None]) -> None:
        """Load nothing."""
        on_change()


def _report(pipeline: FakePipeline) -> ModelReport:
    return ModelReport(ModelState.READY, weights="demo", variants=pipeline.variants)


def _finish() -> None:
    return


def _segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang() -> NoReturn:
    while True:
        time.sleep(1)


def _out_of_memory() -> NoReturn:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def _device_error() -> NoReturn:
    import torch

    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


_ENDINGS = {
    "segfault": _segfault,
    "hang": _hang,
    "out_of_memory": _out_of_memory,
    "device_error": _device_error,
}


def main() -> None:
    """Serve as `python -m workers` does."""
    fake_clock.install("worker")
    settings = read_settings(WorkerSettings)
    configure_logging("worker", settings.log_level, settings.log_format)
    start_traces("worker")
    try:
        status = serve(settings, FakeModels)
    finally:
        stop_traces()
    if status == DEVICE_BROKEN:
        os._exit(status)  # as `python -m workers` does
    sys.exit(status)


if __name__ == "__main__":
    main()
