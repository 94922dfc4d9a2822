"""Tells Redis how far the requests in hand are and hears who is cancelled, without the computation waiting."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from workers.state.record import Record
from workers.state.records import Records
from workers.state.scripts import CANCELLED

_log = logging.getLogger(__name__)
_INTERVAL_S: Final = 0.25


@dataclass(eq=False)
class Progress:
    """How far a request is. The reporter writes `cancelled`, whoever computes everything else."""

    record: Record
    step: int = 0
    total: int = 0
    cancelled: bool = False
    seconds: float = 0.0
    """Computing time of the stages that are over."""
    since: float | None = None
    """When the present stage began, by the monotonic clock; None between two stages."""

    @property
    def inference_time(self) -> float:
        """Seconds that were computed so far; waiting between two stages does not count."""
        since = self.since
        return self.seconds + (0.0 if since is None else time.monotonic() - since)


class Reporter(threading.Thread):
    """Reports on all that it follows, until it is stopped; rides out Redis outages. Any thread may call it."""

    def __init__(self, records: Records, interval_s: float = _INTERVAL_S) -> None:
        super().__init__(name="reporter", daemon=True)
        self._records = records
        self._interval_s = interval_s
        self._followed: dict[str, Progress] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @property
    def request_ids(self) -> tuple[str, ...]:
        """The requests in hand, in the order in which they were taken."""
        with self._lock:
            return tuple(self._followed)

    def follow(self, record: Record) -> Progress:
        """Report on a request that was taken, until `leave`."""
        progress = Progress(record)
        with self._lock:
            self._followed[record.request_id] = progress
        return progress

    def leave(self, progress: Progress) -> None:
        """Report on it no more: it has ended, or is to be taken for lost."""
        with self._lock:
            if self._followed.get(progress.record.request_id) is progress:
                del self._followed[progress.record.request_id]

    def run(self) -> None:
        """Report until `stop`."""
        while not self._ended.wait(self._interval_s):
            with self._lock:
                followed = list(self._followed.values())
            for progress in followed:
                self._report(progress)

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()

    def _report(self, progress: Progress) -> None:
        """A request that is cancelled ends at once, though others may be drawn in one run with it."""
        try:
            if not progress.cancelled and self._records.report(progress.record, progress.step, progress.total):
                progress.cancelled = True
                self._records.fail(progress.record, CANCELLED, progress.inference_time)
        except RedisError as error:
            _log.debug("cannot report on %s: %s", progress.record.request_id, error)
