"""The middle stage: pictures are drawn, one run of one pipeline at a time, by the one thread that uses the device."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from models.errors import NonFiniteResult
from models.pipeline import Pixels
from workers.engine.device_errors import free_device_memory, is_broken_device, is_out_of_memory
from workers.engine.job import Allowance, Job
from workers.engine.outcome import Endings
from workers.errors import Cancelled, DeadlineExceeded
from workers.state.scripts import CANCELLED

_log = logging.getLogger(__name__)
_ENDS_SOON_S: Final = 1.0
"""The next request is taken so long before a run ends: enough to prepare it, most of which goes to finding faces, and
little for it to wait if another worker gets free meanwhile."""


@dataclass(frozen=True)
class Drawn:
    """A request with its pictures."""

    job: Job
    pixels: Pixels


@dataclass
class Steps:
    """Hears of every step of a run: passes it on, leaves a run that is too long or that nobody wants any more."""

    jobs: Sequence[Job]
    deadline: float
    timeout_s: int
    ends_soon: Callable[[], None]
    """Called, perhaps more than once, when about a second is left, judged by the step that was the last."""
    _last: float = field(default_factory=time.monotonic)

    def __call__(self, step: int, total: int) -> None:
        """Raise `Cancelled` if all requests are cancelled, or `DeadlineExceeded`."""
        now = time.monotonic()
        for job in self.jobs:
            job.progress.step, job.progress.total = step, total
        self.check()
        if (total - step) * (now - self._last) <= _ENDS_SOON_S:
            self.ends_soon()
        self._last = now

    def check(self) -> None:
        """The same without a step."""
        progress = self.jobs[0].progress
        if all(job.progress.cancelled for job in self.jobs):
            raise Cancelled(CANCELLED)
        if time.monotonic() > self.deadline:
            at = f"step {progress.step} of {progress.total}" if progress.total else "before the first step"
            raise DeadlineExceeded(f"The request took longer than {self.timeout_s} s ({at}).")


@dataclass(frozen=True)
class Drawing:
    """Draws requests of one batch_key together, and each alone if that fails."""

    endings: Endings
    allowance: Allowance

    def __call__(self, jobs: Sequence[Job], ends_soon: Callable[[], None]) -> list[Drawn]:
        """Draw what is not cancelled; what cannot be drawn is ended.

        After a run of several that fails, or one that runs out of memory, each is tried once more by itself, so that
        only who is to blame fails. Raises `DeviceBroken`, and leaves all of them to another process then.
        """
        wanted = [job for job in jobs if not self.endings.is_over(job.progress)]
        before = [job.progress.seconds for job in wanted]
        try:
            return self._run(wanted, ends_soon) if wanted else []
        except Exception as error:  # noqa: BLE001 - a defect in a model must not end the worker
            if not _is_worth_another_run(error, wanted):
                return self._fail(wanted, error)
            _log.warning("%s: tried once more, each alone", _in_words(wanted, error))
        # Only now nothing refers to the stack, and what it held, any more.
        free_device_memory()
        for job, seconds in zip(wanted, before, strict=True):
            job.progress.seconds = seconds
        return [drawn for job in wanted for drawn in self._run_alone(job, ends_soon)]

    def _run(self, jobs: Sequence[Job], ends_soon: Callable[[], None]) -> list[Drawn]:
        with self.allowance.stage([job.progress for job in jobs]) as deadline:
            steps = Steps(jobs, deadline, self.allowance.timeout_s, ends_soon)
            steps.check()
            outcomes = jobs[0].pipeline.run([job.prepared for job in jobs], steps)
        drawn = []
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, NonFiniteResult):
                self.endings.fail(job.progress, outcome)  # the others of its run have their pictures all the same
            else:
                drawn.append(Drawn(job, outcome))
        return drawn

    def _run_alone(self, job: Job, ends_soon: Callable[[], None]) -> list[Drawn]:
        if self.endings.is_over(job.progress):
            return []
        try:
            return self._run([job], ends_soon)
        except Exception as error:  # noqa: BLE001 - a defect in a model must not end the worker
            return self._fail([job], error)

    def _fail(self, jobs: Sequence[Job], error: Exception) -> list[Drawn]:
        for job in jobs:
            self.endings.fail(job.progress, error)
        return []


def _is_worth_another_run(error: Exception, jobs: Sequence[Job]) -> bool:
    if isinstance(error, Cancelled) or is_broken_device(error):
        return False
    return len(jobs) > 1 or is_out_of_memory(error)


def _in_words(jobs: Sequence[Job], error: Exception) -> str:
    names = ", ".join(job.progress.record.request_id for job in jobs)
    return f"{names} ran out of device memory" if is_out_of_memory(error) else f"{names} failed ({error!r})"
