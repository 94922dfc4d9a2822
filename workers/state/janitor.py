"""Repairs what crashes leave behind, and removes what has expired.

record PROCESSING, its worker dead or without it     → requeued, or FAILED after the last attempt
wakeups fewer than waiting requests, or far more     → added, or removed
record QUEUED, in no queue                           → enqueued at the front
record QUEUED for longer than `request_ttl_s`        → FAILED
id in the list of unfinished requests, record gone   → removed from the list
file in the store, expired                           → removed
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from redis.exceptions import RedisError

from models.catalog import MODELS
from workers.errors import OtherVersion
from workers.state.record import FailureReason, Record, Status
from workers.state.records import Records
from workers.state.registry import WorkerRegistry
from workers.store.base import Store

_log = logging.getLogger(__name__)
_AUDITED: Final = 1000
"""Unfinished requests that one round checks; the next continues behind them."""
_PURGE_INTERVAL_S: Final = 60.0


@dataclass
class Janitor:
    """Every round is bounded and idempotent, and may run in any process; one at a time suffices for one Redis."""

    records: Records
    store: Store
    registry: WorkerRegistry
    max_attempts: int
    _audited: int = field(default=0, init=False)
    _next_purge: float = field(default=0.0, init=False)
    _stale_from: float = field(default=0.0, init=False)
    """Monotonic time before which no worker is presumed dead: during an outage of Redis none could send heartbeats."""

    def run_once(self) -> None:
        """Do one round."""
        try:
            self._requeue_abandoned()
            self._audit()
            self._reconcile_wakeups()
        except RedisError:
            self._stale_from = time.monotonic() + self.registry.ttl_s
            raise
        if time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + _PURGE_INTERVAL_S
            self.store.purge_expired()

    def _requeue_abandoned(self) -> None:
        running = self.records.running()
        in_flight = {worker.name: worker.requests for worker in self.registry.live_workers()} if running else {}
        for request_id in running:
            record = self._readable(request_id)
            if record and record.status is Status.PROCESSING and self._is_abandoned(record, in_flight):
                self._requeue_or_fail(record)

    def _is_abandoned(self, record: Record, in_flight: Mapping[str, Sequence[str]]) -> bool:
        """Whether its worker is presumed dead, or has sent heartbeats since then that do not list the request."""
        if record.worker not in in_flight:
            return time.monotonic() >= self._stale_from
        unknown = record.request_id not in in_flight[record.worker]
        return unknown and self.records.now() - (record.started_at or 0.0) > self.registry.ttl_s

    def _requeue_or_fail(self, record: Record) -> None:
        if record.attempt >= self.max_attempts and not record.cancel_requested:
            _log.error("failed: its worker died in each of %d attempts", record.attempt, extra=_of(record.request_id))
            error = f"The worker died on this request, {record.attempt} times in a row."
            self.records.fail(record, error, reason=FailureReason.WORKER_DIED)
        elif self.records.requeue(record):
            _log.warning("requeued: worker %s is presumed dead", record.worker, extra=_of(record.request_id))
        self._drop_images_if_ended(record.request_id)

    def _audit(self) -> None:
        audit = self.records.audit(self._audited, _AUDITED)
        self._audited = 0 if audit.seen < _AUDITED else self._audited + _AUDITED
        for request_id in audit.repaired:
            _log.warning("repaired: record and lists did not agree, or it was overdue", extra=_of(request_id))
            self._drop_images_if_ended(request_id)

    def _reconcile_wakeups(self) -> None:
        for slug, model in MODELS.items():
            for variant in model.params.variants:
                if added := self.records.reconcile_wakeups((slug, variant)):
                    _log.info("%d wakeups were added for %s/%s", added, slug, variant)

    def _readable(self, request_id: str) -> Record | None:
        try:
            return self.records.get(request_id)
        except OtherVersion:  # for the janitor of a gateway of that version
            return None
        except (ValueError, KeyError) as error:
            _log.error("the record is damaged: %r", error, extra=_of(request_id))
            return None

    def _drop_images_if_ended(self, request_id: str) -> None:
        record = self._readable(request_id)
        if record and record.status.is_final:
            for name in record.stored_images.values():
                self.store.delete(name)


def _of(request_id: str) -> dict[str, str]:
    """The request that a line of the log concerns; see `workers.logs`."""
    return {"request_id": request_id}
