"""How a request ends in a worker: COMPLETED with images, or FAILED with a message. Its inputs are deleted then."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from models.errors import InputRefused, NonFiniteResult
from workers.engine.device_errors import is_broken_device, is_out_of_memory
from workers.engine.progress import Progress, Reporter
from workers.errors import Cancelled, DeadlineExceeded, DeviceBroken, StoreUnavailable
from workers.logs import request_context
from workers.metrics.events import NOT_COUNTED, WorkerEvents
from workers.state.connection import retry_until_available
from workers.state.record import FailureReason, Output, Record, Result, Status
from workers.state.records import Records
from workers.state.scripts import CANCELLED
from workers.store.base import Store

_log = logging.getLogger(__name__)
_TOLD: Final = {
    InputRefused: FailureReason.INPUT,
    DeadlineExceeded: FailureReason.DEADLINE,
    Cancelled: FailureReason.CANCELLED,
}
"""Errors whose own words are for the caller."""


@dataclass(frozen=True)
class Completion:
    """Moves requests to a final state. A transition that Redis refuses is left to the janitor, so no stage fails."""

    records: Records
    store: Store
    reporter: Reporter
    events: WorkerEvents = NOT_COUNTED

    def complete(self, results: Sequence[Result], requests: Sequence[Progress]) -> list[bool]:
        """Complete requests whose images are stored; False for each that was cancelled or requeued meanwhile.

        `clean_up` must follow for each. The list is empty if Redis refuses to say what has become of them.
        """
        completed = self._settle(requests, lambda: self.records.complete(results))
        for request, result, done in zip(requests, results, completed, strict=False):
            request.trace.end("" if done else FailureReason.CANCELLED if request.cancelled else "discarded")
            if done:
                self.events.ended(result.record, result.stages, len(result.outputs))
            elif self._was_cancelled(result.record):
                self.events.ended(result.record, result.stages, 0)
            message = "completed in %.2f s" if done else "cancelled or requeued; its %.2f s are discarded"
            _log.info(message, result.inference_time, extra={"request_id": result.record.request_id})
        return completed

    def fail(self, progress: Progress, error: Exception) -> None:
        """Fail a request because of an error. Raises `DeviceBroken` if another process has to try it again."""
        if is_broken_device(error):
            raise DeviceBroken(str(error)) from error
        with request_context(progress.request_id):
            record, (reason, message) = progress.record, _explain(error)
            _log.info("failed: %s", message)
            ending = record, message, progress.compute_s, reason, progress.stages
            for failed in self._settle([progress], lambda: [self.records.fail(*ending)]):
                if failed:
                    self.events.ended(record, progress.stages, 0)
                self.clean_up(record, failed)
            progress.trace.end(reason)

    def is_cancelled(self, progress: Progress) -> bool:
        """Whether a request needs none of its remaining stages because it was cancelled; it is FAILED then."""
        if progress.cancelled:
            self.fail(progress, Cancelled(CANCELLED))
        return progress.cancelled

    def clean_up(self, record: Record, ended: bool, outputs: Iterable[Output] = ()) -> None:
        """Delete outputs that no record names, and the request's input images unless another worker needs them."""
        with request_context(record.request_id):
            if not ended:
                self.delete(output.name for output in outputs)
            if ended or self._is_final(record.request_id):
                self.delete(record.stored_images.values())

    def delete(self, names: Iterable[str]) -> None:
        """Delete images from the store."""
        for name in names:
            self.store.delete(name)

    def _settle(self, requests: Sequence[Progress], transition: Callable[[], list[bool]]) -> list[bool]:
        """Whether each made the transition; an empty list if Redis refuses to say: no image may be deleted then."""
        try:
            return retry_until_available(transition)
        except RedisError:
            ids = ",".join(request.request_id for request in requests)
            _log.exception("the end could not be recorded", extra={"request_id": ids})
            for request in requests:
                request.trace.end("unrecorded")
            return []
        finally:
            for request in requests:
                self.reporter.untrack(request)

    def _was_cancelled(self, record: Record) -> bool:
        """Whether the request FAILED instead of being completed: it was cancelled after the last report."""
        try:
            now = retry_until_available(lambda: self.records.get(record.request_id))
        except RedisError:
            return False
        ended = (Status.FAILED, record.attempt, record.worker)
        return now is not None and (now.status, now.attempt, now.worker) == ended

    def _is_final(self, request_id: str) -> bool:
        try:
            record = retry_until_available(lambda: self.records.get(request_id))
        except RedisError:
            return False
        return record is None or record.status.is_final


def _explain(error: Exception) -> tuple[FailureReason, str]:
    """The reason that is counted, and the words for the caller; details go to the log only."""
    for kind, reason in _TOLD.items():
        if isinstance(error, kind):
            return reason, str(error)
    if isinstance(error, StoreUnavailable):
        _log.error("the result store is unavailable: %s", error)
        return FailureReason.STORE, "The result store cannot be used. Try again later."
    if isinstance(error, NonFiniteResult):
        _log.error("values are not finite; `facelight weights verify` finds damaged weight files")
        return FailureReason.NON_FINITE, str(error)
    _log.error("an unexpected error", exc_info=error)
    if is_out_of_memory(error):
        return FailureReason.DEVICE_MEMORY, "The GPU has not enough memory for this request."
    return FailureReason.MODEL, "The model failed on this request."
