"""How a request ends in a worker: with pictures, or with a sentence. Its own pictures go, whichever it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from models.errors import InputRefused, NonFiniteResult
from workers.engine.device_errors import is_broken_device, is_out_of_memory
from workers.engine.progress import Progress, Reporter
from workers.errors import Cancelled, DeadlineExceeded, DeviceBroken, StoreUnavailable
from workers.state.connection import retry_until_available
from workers.state.record import Output, Record, Result
from workers.state.records import Records
from workers.state.scripts import CANCELLED
from workers.store.base import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endings:
    """Ends requests. What Redis refuses is left to the janitor, so that no stage fails for it."""

    records: Records
    store: Store
    reporter: Reporter

    def complete(self, results: Sequence[Result], requests: Sequence[Progress]) -> list[bool]:
        """End requests with the pictures that are in the store; False for those that nobody wants any more.

        `tidy` must follow for each. The list is empty if Redis refuses to say what has become of them.
        """
        ended = self._end(requests, lambda: self.records.complete(results))
        for result, completed in zip(results, ended, strict=False):
            words = "%s completed in %.2f s" if completed else "%s was cancelled, or given to another, in its %.2f s"
            _log.info(words, result.record.request_id, result.inference_time)
        return ended

    def fail(self, progress: Progress, error: Exception) -> None:
        """End a request because of an error. Raises `DeviceBroken` if another process has to try it again."""
        if is_broken_device(error):
            raise DeviceBroken(str(error)) from error
        record, sentence = progress.record, _sentence(progress, error)
        _log.info("%s failed: %s", record.request_id, sentence)
        for ended in self._end([progress], lambda: [self.records.fail(record, sentence, progress.seconds)]):
            self.tidy(record, ended)

    def is_over(self, progress: Progress) -> bool:
        """Whether a request needs no more of its stages because its caller cancelled it; it is ended then."""
        if progress.cancelled:
            self.fail(progress, Cancelled(CANCELLED))
        return progress.cancelled

    def tidy(self, record: Record, ended: bool, outputs: Iterable[Output] = ()) -> None:
        """Remove results in vain, and the pictures that a request came with, unless another worker needs them."""
        if not ended:
            self.drop(output.name for output in outputs)
        if ended or self._is_final(record.request_id):
            self.drop(record.stored_images.values())

    def drop(self, names: Iterable[str]) -> None:
        """Remove pictures from the store."""
        for name in names:
            self.store.delete(name)

    def _end(self, requests: Sequence[Progress], step: Callable[[], list[bool]]) -> list[bool]:
        """Whether each has ended so; nothing at all if Redis refuses to say: then no picture may go either."""
        try:
            return retry_until_available(step)
        except RedisError:
            _log.exception("%s could not be ended", ", ".join(request.record.request_id for request in requests))
            return []
        finally:
            for request in requests:
                self.reporter.leave(request)

    def _is_final(self, request_id: str) -> bool:
        try:
            record = retry_until_available(lambda: self.records.get(request_id))
        except RedisError:
            return False
        return record is None or record.status.is_final


def _sentence(progress: Progress, error: Exception) -> str:
    """What the caller is told; the log is told the rest."""
    if isinstance(error, (InputRefused, DeadlineExceeded, Cancelled)):
        return str(error)
    request_id = progress.record.request_id
    if isinstance(error, StoreUnavailable):
        _log.error("%s failed, for the result store did: %s", request_id, error)
        return "The result store cannot be used. Try again later."
    if isinstance(error, NonFiniteResult):
        _log.error("%s has no picture. `facelight weights verify` tells whether a weight file is damaged.", request_id)
        return str(error)
    _log.error("%s failed", request_id, exc_info=error)
    if is_out_of_memory(error):
        return "The GPU has not enough memory for this request."
    return "The model failed on this request."
