"""Tells Redis how far the request at hand is and hears whether it is cancelled, without the computation waiting."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from workers.records import Record, Records

_log = logging.getLogger(__name__)
_INTERVAL_S: Final = 0.25


@dataclass
class Progress:
    """How far a request is. The computing thread writes `step` and `total`, the reporter `cancelled`."""

    record: Record
    step: int = 0
    total: int = 0
    cancelled: bool = False


class Reporter(threading.Thread):
    """Reports on what `following` shows it, until it is stopped; rides out Redis outages."""

    def __init__(self, records: Records, interval_s: float = _INTERVAL_S) -> None:
        super().__init__(name="reporter", daemon=True)
        self._records = records
        self._interval_s = interval_s
        self._progress: Progress | None = None
        self._ended = threading.Event()

    @property
    def request_id(self) -> str:
        """The request at hand, or an empty string. May be called from another thread."""
        progress = self._progress
        return progress.record.request_id if progress else ""

    @contextmanager
    def following(self, record: Record) -> Iterator[Progress]:
        """Report on a request while the block lasts."""
        self._progress = Progress(record)
        try:
            yield self._progress
        finally:
            self._progress = None

    def run(self) -> None:
        """Report until `stop`."""
        while not self._ended.wait(self._interval_s):
            if progress := self._progress:
                self._report(progress)

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()

    def _report(self, progress: Progress) -> None:
        try:
            progress.cancelled = self._records.report(progress.record, progress.step, progress.total)
        except RedisError as error:
            _log.debug("cannot report on %s: %s", progress.record.request_id, error)
