"""The middle stage: the pipelines' `run`, one batch at a time, on the one thread that uses the device."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from models.errors import NonFiniteResult
from models.pipeline import Pixels
from workers.engine.device_errors import free_device_memory, is_broken_device, is_out_of_memory
from workers.engine.outcome import Completion
from workers.engine.prepare import PreparedRequest
from workers.engine.progress import TimeBudget
from workers.errors import Cancelled, DeadlineExceeded
from workers.metrics.events import NOT_COUNTED, WorkerEvents
from workers.state.scripts import CANCELLED

_log = logging.getLogger(__name__)
_NEARLY_DONE_S: Final = 1.0
"""The next request is prefetched so long before a run ends: enough to prepare it, most of which goes to finding faces,
and little for it to wait if another worker becomes idle meanwhile."""


@dataclass(frozen=True)
class StageOutput:
    """A request with its pixels."""

    request: PreparedRequest
    pixels: Pixels


@dataclass
class StepCallback:
    """The `OnStep` of a run: stores the progress of its requests; raises on cancellation and past the deadline."""

    requests: Sequence[PreparedRequest]
    deadline: float
    timeout_s: int
    on_nearly_done: Callable[[], None]
    """Called, perhaps more than once, when about a second is left, estimated from the last step's time."""
    events: WorkerEvents = NOT_COUNTED
    _last_step_at: float = field(default_factory=time.monotonic)

    def __call__(self, step: int, total: int) -> None:
        """Raise `Cancelled` if all requests are cancelled, or `DeadlineExceeded`."""
        now = time.monotonic()
        for request in self.requests:
            request.progress.step, request.progress.total = step, total
        if step > 1:  # what comes before the first step is more than a step
            self.events.stepped(self.requests[0].progress.record.slug, now - self._last_step_at)
        self.check()
        if (total - step) * (now - self._last_step_at) <= _NEARLY_DONE_S:
            self.on_nearly_done()
        self._last_step_at = now

    def check(self) -> None:
        """The same without a step."""
        progress = self.requests[0].progress
        if all(request.progress.cancelled for request in self.requests):
            raise Cancelled(CANCELLED)
        if time.monotonic() > self.deadline:
            at = f"step {progress.step} of {progress.total}" if progress.total else "before the first step"
            raise DeadlineExceeded(f"The request took longer than {self.timeout_s} s ({at}).")


@dataclass(frozen=True)
class ExecuteStage:
    """Executes requests of one batch key together, and each alone if that fails."""

    completion: Completion
    time_budget: TimeBudget
    events: WorkerEvents = NOT_COUNTED

    def __call__(self, batch: Sequence[PreparedRequest], on_nearly_done: Callable[[], None]) -> list[StageOutput]:
        """Execute what is not cancelled; what cannot be executed is FAILED.

        After a batch of several that fails, or one that runs out of memory, each request is tried once more by itself,
        so that only the one at fault is FAILED. Raises `DeviceBroken`, and leaves all of them to another process then.
        """
        wanted = [request for request in batch if not self.completion.is_cancelled(request.progress)]
        if not wanted:
            return []
        compute_s = [request.progress.compute_s for request in wanted]
        try:
            return self._run(wanted, on_nearly_done)
        except Exception as error:  # noqa: BLE001 - a defect in a model must not end the worker
            if not _is_retryable(error, wanted):
                self._fail(wanted, error)
                return []
            reason = "out of device memory" if is_out_of_memory(error) else repr(error)
            _log.warning("execution failed (%s), retrying each request alone", reason)
        # Behind the block: nothing refers to the failed run's frames, and the tensors in them, any more.
        free_device_memory()
        for request, seconds in zip(wanted, compute_s, strict=True):
            request.progress.compute_s = seconds  # the time of the failed run does not count
        outputs = []
        for request in wanted:
            if self.completion.is_cancelled(request.progress):
                continue
            self.events.retried(request.progress.record.slug)
            try:
                outputs += self._run([request], on_nearly_done)
            except Exception as error:  # noqa: BLE001 - a defect in a model must not end the worker
                self._fail([request], error)
        return outputs

    def _run(self, batch: Sequence[PreparedRequest], on_nearly_done: Callable[[], None]) -> list[StageOutput]:
        """Run the pipeline once; a request whose result is not finite is FAILED without affecting the others."""
        with self.time_budget.stage([request.progress for request in batch]) as deadline:
            on_step = StepCallback(batch, deadline, self.time_budget.timeout_s, on_nearly_done, self.events)
            on_step.check()
            began = time.monotonic()
            outcomes = batch[0].pipeline.run([request.prepared for request in batch], on_step)
            device_s = time.monotonic() - began
            self.events.ran(batch[0].progress.record.slug, len(batch), device_s)
            # Read once: on a GPU each reading asks the device for all of its events.
            stages, intervals = batch[0].pipeline.stage_seconds, batch[0].pipeline.stage_intervals
            for request in batch:
                request.progress.stages |= stages
                request.progress.device_s = device_s / len(batch)
                request.progress.trace.timed(intervals)
        outputs = []
        for request, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, NonFiniteResult):
                self.completion.fail(request.progress, outcome)
            else:
                outputs.append(StageOutput(request, outcome))
        return outputs

    def _fail(self, batch: Sequence[PreparedRequest], error: Exception) -> None:
        for request in batch:
            self.completion.fail(request.progress, error)


def _is_retryable(error: Exception, batch: Sequence[PreparedRequest]) -> bool:
    if isinstance(error, Cancelled) or is_broken_device(error):
        return False
    return len(batch) > 1 or is_out_of_memory(error)
