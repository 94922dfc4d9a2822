"""The stages of a worker, so that the device never waits while requests do.

    prefetch thread     claim, prepare            one batch ahead
    main thread         execute                   the only one that uses the device, but for the faces of prepare
    publish threads     encode, store, complete   the last few requests

The queues between the stages are bounded: if the disk becomes slow, the device waits once more than `MAX_PENDING`
results are pending. A batch is prefetched only when the present one is nearly done, and only if no other worker was
notified of its requests. Requests complete in the order in which they were claimed.

A request that was tried before may have killed its worker, so it is alone in the next: nothing is claimed beside it,
and results that are pending are published first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from threading import Event

from workers.engine.execute import ExecuteStage
from workers.engine.prepare import PreparedRequest, PrepareStage
from workers.engine.publish import PublishStage
from workers.logs import request_context
from workers.state.record import QueueKey


@dataclass
class RequestStages:
    """Prepare, execute, publish: called for every wakeup, serves requests until none waits."""

    prepare: PrepareStage
    execute: ExecuteStage
    publish: PublishStage
    _prefetched: Future[list[PreparedRequest]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._prefetch_thread = ThreadPoolExecutor(1, "prefetch")
        self._closing = Event()

    def serve(self, queue_key: QueueKey, wakeup: bytes) -> Iterator[None]:
        """Serve the requests of the queue that the wakeup is for, then of any; yields after every batch.

        How requests ended is in their records alone. Raises `DeviceBroken`; all requests in flight are left to be
        requeued by the janitor then.
        """
        requests = self.prepare.claim(queue_key, wakeup)
        while requests:
            self._serve(requests)
            yield
            prefetched, self._prefetched = self._prefetched, None
            requests = prefetched.result() if prefetched is not None else []
            if not requests and not self._closing.is_set():
                requests = self.prepare.claim_any(first_attempt_only=False)

    def stop_claiming(self) -> None:
        """Serve what is in flight and claim nothing else. May be called by a signal handler."""
        self._closing.set()

    def close(self) -> None:
        """Claim nothing more, and wait until everything is published."""
        self.stop_claiming()
        self._prefetch_thread.shutdown(wait=False, cancel_futures=True)
        self.publish.close()

    def _serve(self, requests: Sequence[PreparedRequest]) -> None:
        """Execute what was claimed together, one run for each batch key, and have it published."""
        is_alone = not all(request.is_first_attempt for request in requests)
        if is_alone:
            self.publish.wait_for_pending()
            self.publish.check()
        batches = [list(batch) for _, batch in groupby(requests, key=lambda each: (each.pipeline, each.batch_key))]
        for number, batch in enumerate(batches, 1):
            may_prefetch = number == len(batches) and not is_alone
            with request_context(*(request.progress.request_id for request in batch)):
                outputs = self.execute(batch, self._prefetch if may_prefetch else no_prefetch)
            for output in outputs:
                self.publish.submit(output)
            self.publish.check()

    def _prefetch(self) -> None:
        if self._prefetched is None and not self._closing.is_set():
            self._prefetched = self._prefetch_thread.submit(self.prepare.claim_any, first_attempt_only=True)


def no_prefetch() -> None:
    """Between two batches of what was claimed together nothing is prefetched."""
