"""Repairs what crashes leave behind, and removes what has expired.

record PROCESSING, its worker is dead, or at something else  → queued again, or FAILED after the last attempt
requests wait, and there are too few tokens, or far too many → tokens added, or removed
record QUEUED, stands nowhere                                → put before all others
record QUEUED for longer than `request_ttl_s`                → FAILED
id on the list of unfinished requests, record gone           → taken off the list
file in the store, expired                                   → removed
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from redis.exceptions import RedisError

from models.catalog import MODELS
from workers.state.record import Record, Status
from workers.state.records import Records
from workers.state.registry import WorkerRegistry
from workers.store.base import Store

_log = logging.getLogger(__name__)
_AUDITED: Final = 1000
"""Unfinished requests that one round looks at; the next goes on where it ended."""
_SWEEP_INTERVAL_S: Final = 60.0


@dataclass
class Janitor:
    """Every round is bounded, repeats safely and may run anywhere; one round at a time is enough for one Redis."""

    records: Records
    store: Store
    registry: WorkerRegistry
    max_attempts: int
    _audited: int = field(default=0, init=False)
    _next_sweep: float = field(default=0.0, init=False)
    _silence_counts_from: float = field(default=0.0, init=False)
    """By the monotonic clock. While Redis was away no worker could say that it lives."""

    def run_once(self) -> None:
        """Do one round."""
        try:
            self._requeue_abandoned()
            self._audit()
            self._reconcile_wakeups()
        except RedisError:
            self._silence_counts_from = time.monotonic() + self.registry.ttl_s
            raise
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP_INTERVAL_S
            self.store.purge_expired()

    def _requeue_abandoned(self) -> None:
        running = self.records.running()
        at_work = {worker.name: worker.requests for worker in self.registry.live_workers()} if running else {}
        for request_id in running:
            record = self._readable(request_id)
            if record and record.status is Status.PROCESSING and self._is_abandoned(record, at_work):
                self._requeue_or_fail(record)

    def _is_abandoned(self, record: Record, at_work: Mapping[str, Sequence[str]]) -> bool:
        """Whether its worker is dead, or knows nothing of it for longer than a report needs to arrive."""
        if record.worker not in at_work:
            return time.monotonic() >= self._silence_counts_from
        unknown = record.request_id not in at_work[record.worker]
        return unknown and self.records.now() - (record.started_at or 0.0) > self.registry.ttl_s

    def _requeue_or_fail(self, record: Record) -> None:
        if record.attempt >= self.max_attempts and not record.cancel_requested:
            _log.error("%s failed: its workers died %d times", record.request_id, record.attempt)
            self.records.fail(record, f"The worker died on this request, {record.attempt} times in a row.")
        elif self.records.requeue(record):
            _log.warning("%s is queued again: worker %s died on it", record.request_id, record.worker)
        self._drop_images_if_ended(record.request_id)

    def _audit(self) -> None:
        audit = self.records.audit(self._audited, _AUDITED)
        self._audited = 0 if audit.seen < _AUDITED else self._audited + _AUDITED
        for request_id in audit.repaired:
            _log.warning("%s was repaired", request_id)
            self._drop_images_if_ended(request_id)

    def _reconcile_wakeups(self) -> None:
        for slug, model in MODELS.items():
            for variant in model.params.variants:
                if added := self.records.reconcile_wakeups((slug, variant)):
                    _log.info("%d wakeups were added for %s/%s", added, slug, variant)

    def _readable(self, request_id: str) -> Record | None:
        try:
            return self.records.get(request_id)
        except (ValueError, KeyError) as error:
            _log.error("the record of %s is damaged: %r", request_id, error)
            return None

    def _drop_images_if_ended(self, request_id: str) -> None:
        record = self._readable(request_id)
        if record and record.status.is_final:
            for name in record.stored_images.values():
                self.store.delete(name)
