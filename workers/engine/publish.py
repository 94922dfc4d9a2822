"""The last stage: images are encoded and stored, and the request is completed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import count
from typing import Final, Generic, TypeVar

from models.imaging.decode import MEDIA_TYPES
from workers.engine.execute import StageOutput
from workers.engine.outcome import Completion
from workers.engine.progress import Progress, TimeBudget
from workers.logs import request_context
from workers.state.record import Output, Result
from workers.store.base import Store

_FILES_OUTLIVE_RECORD_S: Final = 1.0
MAX_PENDING: Final = 12
MAX_PENDING_BYTES: Final = 64 * 1024**2
"""So many requests, and so many bytes of pixels, may be pending. Storing small images is waiting for the disk, which
takes about as long for several as for one; large ones take the host's processors, and memory."""
_Stored = tuple[Progress, Result]
Item = TypeVar("Item")


class PublishStage:
    """Publishes requests on threads of its own, several at a time. They complete in the order of submission."""

    def __init__(self, store: Store, completion: Completion, time_budget: TimeBudget, result_ttl_s: int) -> None:
        self._store = store
        self._completion = completion
        self._time_budget = time_budget
        self._file_ttl_s = result_ttl_s + _FILES_OUTLIVE_RECORD_S
        self._threads = ThreadPoolExecutor(MAX_PENDING, "publish")
        self._pending: deque[tuple[Future[None], int]] = deque()
        self._failure: BaseException | None = None
        self._committer = OrderedCommitter(self._complete)

    def submit(self, output: StageOutput) -> None:
        """Have a request published; blocks until fewer than `MAX_PENDING` are pending."""
        size = output.pixels.nbytes
        self.wait_for_pending(MAX_PENDING - 1, MAX_PENDING_BYTES - size)
        self._pending.append((self._threads.submit(self._publish, output, self._committer.reserve()), size))

    def wait_for_pending(self, count: int = 0, size: int = 0) -> None:
        """Wait until at most `count` requests with at most `size` bytes of pixels are pending, or none at all."""
        self._reap()
        while self._pending and (len(self._pending) > count or sum(each for _, each in self._pending) > size):
            wait([self._pending[0][0]])
            self._reap()

    def check(self) -> None:
        """Raise the first error of the publications since the last check, such as `DeviceBroken`."""
        self._reap()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Wait until everything is published."""
        wait([future for future, _ in self._pending])
        self._threads.shutdown()

    def _reap(self) -> None:
        """Remove the oldest publications as far as they are done, and keep the first error."""
        while self._pending and self._pending[0][0].done():
            future, _ = self._pending.popleft()
            self._failure = self._failure or future.exception()

    def _publish(self, output: StageOutput, position: int) -> None:
        stored = None
        try:
            with request_context(output.request.progress.request_id):
                stored = self._encode_and_store(output)
        finally:
            self._committer.submit(position, stored)

    def _encode_and_store(self, output: StageOutput) -> _Stored | None:
        """Store all images of a request, or none; None if the request is FAILED."""
        request, progress = output.request, output.request.progress
        if self._completion.is_cancelled(progress):
            return None
        height, width = output.pixels.shape[1:3]
        image_format = request.params.output_format
        outputs: list[Output] = []
        try:
            with self._time_budget.stage([progress], "publish"):
                for file in request.pipeline.finish(request.params, output.pixels):
                    name = self._store.put(file, image_format, self._file_ttl_s)
                    outputs.append(Output(name, MEDIA_TYPES[image_format], len(file), width, height))
        except Exception as error:  # noqa: BLE001 - a defect in a model must not end the worker
            self._completion.delete(stored.name for stored in outputs)
            self._completion.fail(progress, error)
            return None
        result = Result(progress.record, tuple(outputs), progress.compute_s, progress.stages, progress.device_s)
        return progress, result

    def _complete(self, stored: Sequence[_Stored]) -> None:
        results = [result for _, result in stored]
        completed = self._completion.complete(results, [progress for progress, _ in stored])
        for result, done in zip(results, completed, strict=False):
            # On another thread: deleting a file may wait for the disk as well, and the next group is to be committed.
            self._threads.submit(self._completion.clean_up, result.record, done, result.outputs)


class OrderedCommitter(Generic[Item]):
    """Commits items in the order of their reservations, and all that are ready as one group.

    The thread that submits the next item in order commits it, with those behind it that are ready; all other threads
    return at once. The slower a commit, the more items share the next (group commit).
    """

    def __init__(self, commit: Callable[[Sequence[Item]], None]) -> None:
        self._commit = commit
        self._reservations = count()
        self._next = 0
        self._ready: dict[int, Item | None] = {}
        self._lock = threading.Lock()
        self._committing = False

    def reserve(self) -> int:
        """The position of the next item. Every reservation must be submitted, with None if there is no item."""
        return next(self._reservations)

    def submit(self, position: int, item: Item | None) -> None:
        """Hand in an item, or None to skip the position; raises what a commit raises."""
        with self._lock:
            self._ready[position] = item
            if self._committing:
                return
            self._committing = True
        try:
            while group := self._next_run():
                self._commit(group)
        except BaseException:  # also an interruption: else no thread would commit again; none can have begun meanwhile
            self._committing = False
            raise

    def _next_run(self) -> list[Item]:
        """Take the ready items that follow each other in order; with none left, this thread commits no more."""
        run: list[Item] = []
        with self._lock:
            while self._next in self._ready:
                item = self._ready.pop(self._next)
                self._next += 1
                if item is not None:
                    run.append(item)
            self._committing = bool(run)
        return run
