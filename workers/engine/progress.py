"""Progress of the requests in flight: written to Redis, and cancellations read from it, on a thread of its own.

The time that a request may compute is counted here too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from redis.exceptions import RedisError

from workers.engine.watchdog import GRACE_S, Watchdog
from workers.state.record import FailureReason, Record
from workers.state.records import Records
from workers.state.scripts import CANCELLED
from workers.traces import Attempt

_log = logging.getLogger(__name__)
_INTERVAL_S: Final = 0.25


@dataclass(eq=False)
class Progress:
    """Progress of one request in flight.

    Every field has one writer. `cancelled` is the reporter's; all others belong to the thread whose stage has the
    request, and a request is in one stage at a time. All may be read by any thread: a reader sees the last value.
    """

    record: Record
    claimed_with: int = 1
    """How many requests were claimed together, this one included."""
    step: int = 0
    total: int = 0
    cancelled: bool = False
    compute_s: float = 0.0
    """Computing time of the stages that are over, in seconds."""
    stages: dict[str, float] = field(default_factory=dict)
    """The same by stage; see `Record.stages`."""
    device_s: float = 0.0
    """Its share of the run in which it had the device, in seconds."""
    stage_began: float | None = None
    """When the present stage began, by the monotonic clock; None between two stages."""
    trace: Attempt = field(init=False)

    def __post_init__(self) -> None:
        self.trace = Attempt(self.record, self.claimed_with)

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self.record.request_id

    @property
    def inference_time(self) -> float:
        """Computing time so far, in seconds; waiting between two stages does not count."""
        began = self.stage_began
        return self.compute_s + (0.0 if began is None else time.monotonic() - began)


@dataclass(frozen=True)
class TimeBudget:
    """Every request may compute for `timeout_s` seconds, all stages together."""

    timeout_s: int
    watchdog: Watchdog

    @contextmanager
    def stage(self, requests: Sequence[Progress], name: str | None = None) -> Iterator[float]:
        """Add the block's time to the requests' computing time; yields the deadline, by the monotonic clock.

        With a `name` it is added to that stage's, too; without, the block tells the stages itself.

        The watchdog ends the process if the block exceeds the deadline by `GRACE_S`.
        """
        began = time.monotonic()
        left = max(0.0, self.timeout_s - max(request.compute_s for request in requests))
        for request in requests:
            request.stage_began = began
        try:
            with self.watchdog.ends_process_after(left + GRACE_S, requests[0].request_id), ExitStack() as spans:
                for request in requests:
                    spans.enter_context(request.trace.stage(name or "run", len(requests)))
                yield began + left
        finally:
            for request in requests:
                request.stage_began = None
                request.compute_s += time.monotonic() - began
                if name is not None:
                    request.stages[name] = request.stages.get(name, 0.0) + time.monotonic() - began


class Reporter(threading.Thread):
    """Reports on all requests that it tracks, until it is stopped; survives Redis outages. Any thread may call it."""

    def __init__(self, records: Records, interval_s: float = _INTERVAL_S) -> None:
        super().__init__(name="reporter", daemon=True)
        self._records = records
        self._interval_s = interval_s
        self._in_flight: dict[str, Progress] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @property
    def request_ids(self) -> tuple[str, ...]:
        """The requests in flight, in the order in which they were claimed."""
        with self._lock:
            return tuple(self._in_flight)

    def track(self, record: Record, claimed_with: int = 1) -> Progress:
        """Report on a request that was claimed, with so many at a time, until `untrack`."""
        progress = Progress(record, claimed_with)
        with self._lock:
            self._in_flight[record.request_id] = progress
        return progress

    def untrack(self, progress: Progress) -> None:
        """Report on it no more: it has ended, or the janitor is to requeue it."""
        with self._lock:
            if self._in_flight.get(progress.request_id) is progress:
                del self._in_flight[progress.request_id]

    def run(self) -> None:
        """Report until `stop`."""
        while not self._stopped.wait(self._interval_s):
            with self._lock:
                in_flight = list(self._in_flight.values())
            for progress in in_flight:
                self._report(progress)

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self.is_alive():  # a signal may have come before it was started
            self.join()
        for progress in self._in_flight.values():  # of a broken device: another process tries them again
            progress.trace.end(FailureReason.WORKER_DIED)

    def _report(self, progress: Progress) -> None:
        """Write the step. A cancelled request is FAILED at once, though the rest of its batch is still executing."""
        try:
            if not progress.cancelled and self._records.report(progress.record, progress.step, progress.total):
                progress.cancelled = True
                self._records.fail(progress.record, CANCELLED, progress.inference_time, FailureReason.CANCELLED)
        except RedisError as error:
            _log.debug("cannot report progress: %s", error, extra={"request_id": progress.request_id})
