"""The stages of a worker, so that the device waits for nothing but requests.

    intake thread       take, prepare     one run ahead
    the main thread     run               it alone uses the device
    finisher threads    finish, store     the last few requests

What waits between two stages is bounded: on a disk that has become slow, the device waits when there is one picture
more than may be behind. A request is taken ahead only when the run at hand is about to end, and only if no other worker
waits for one. Requests complete in the order in which they were taken.

A request that was tried before has perhaps killed its worker, so it is alone in the next: nothing is taken beside it,
and what was drawn before it is stored first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from threading import Event

from workers.engine.execute import Drawing
from workers.engine.job import Job
from workers.engine.prepare import Intake
from workers.engine.publish import Finisher
from workers.state.record import QueueKey


@dataclass
class Task:
    """The one job there is: called with what a token stands for, it serves whoever waits, until nobody does."""

    intake: Intake
    drawing: Drawing
    finisher: Finisher
    _ahead: Future[list[Job]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._intake_thread = ThreadPoolExecutor(1, "intake")
        self._closing = Event()

    def __call__(self, queue_key: QueueKey, token: bytes) -> Iterator[None]:
        """Serve who is next at `queue_key`, then anybody else; yields after every run. Only records tell how they
        ended.

        Raises `DeviceBroken`; all requests in hand are left to be tried again by other processes then.
        """
        jobs = self.intake.take(queue_key, token)
        while jobs:
            self._serve(jobs)
            yield
            jobs = self._next()

    def take_no_more(self) -> None:
        """Serve what is in hand and take nothing else. May be called by a signal handler."""
        self._closing.set()

    def close(self) -> None:
        """Wait for what was drawn to be stored; take nothing more."""
        self.take_no_more()
        self._intake_thread.shutdown(wait=False, cancel_futures=True)
        self.finisher.close()

    def _serve(self, jobs: Sequence[Job]) -> None:
        alone = not all(job.is_new for job in jobs)
        if alone:
            self.finisher.wait_until_behind(0)
        runs = [list(kin) for _, kin in groupby(jobs, key=lambda job: (job.pipeline, job.batch_key))]
        for number, run in enumerate(runs, 1):
            is_last = number == len(runs) and not alone
            for drawn in self.drawing(run, self._look_ahead if is_last else _look_nowhere):
                self.finisher(drawn)

    def _look_ahead(self) -> None:
        if self._ahead is None and not self._closing.is_set():
            self._ahead = self._intake_thread.submit(self.intake.take_more, only_new=True)

    def _next(self) -> list[Job]:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (jobs := ahead.result()):
            return jobs
        return [] if self._closing.is_set() else self.intake.take_more(only_new=False)


def _look_nowhere() -> None:
    """Between two runs of what was taken together nothing is taken."""
