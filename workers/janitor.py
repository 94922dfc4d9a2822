"""Repairs what crashes leave behind, and removes what has expired.

record PROCESSING, its worker is dead     → queued again, or FAILED after the last attempt
record QUEUED, its job is in no queue     → put into the queue again
id on the unfinished list, record expired → taken off the list
file in the store, expired                → removed
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Final

from workers.presence import Presence
from workers.queue import JobQueue
from workers.records import Record, Records, Status
from workers.store import Store

_log = logging.getLogger(__name__)
_QUEUE_GRACE_S: Final = 5.0
"""A QUEUED record may be out of every queue for a moment: just written, or just taken by a worker."""
_SWEEP_INTERVAL_S: Final = 60.0


@dataclass
class Janitor:
    """Every round is bounded, repeats safely and may run anywhere; one round at a time is enough for one Redis."""

    records: Records
    queue: JobQueue
    store: Store
    presence: Presence
    max_attempts: int
    _next_sweep: float = field(default=0.0, init=False)

    def tidy(self) -> None:
        """Do one round."""
        for request_id in self._suspects():
            record = self.records.get(request_id)
            if record is None:
                self.records.forget(request_id)
            elif record.status is Status.PROCESSING:
                self._mend_processing(record)
            elif record.status is Status.QUEUED:
                self._mend_queued(record)
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP_INTERVAL_S
            self.store.sweep()

    def _suspects(self) -> list[str]:
        """Unfinished requests that do not stand in a queue; those that do are well, however many there are."""
        unfinished = self.records.unfinished()
        waiting = self.queue.waiting()
        return [request_id for request_id in unfinished if request_id not in waiting]

    def _mend_processing(self, record: Record) -> None:
        if self.presence.is_alive(record.worker):
            return
        if record.attempt >= self.max_attempts:
            _log.error("%s failed: its workers died %d times", record.request_id, record.attempt)
            self.records.fail(record, f"The worker died on this request, {record.attempt} times in a row.")
        elif self.records.requeue(record):
            _log.warning("%s is queued again: worker %s died on it", record.request_id, record.worker)
            self._put(record)
        self.queue.discard(record)

    def _mend_queued(self, record: Record) -> None:
        if self.records.now() - record.queued_at > _QUEUE_GRACE_S:
            _log.warning("%s is put into the queue again: its job was lost", record.request_id)
            self._put(record)

    def _put(self, record: Record) -> None:
        self.queue.put(record.request_id, record.slug, record.variant, record.attempt)
