"""The last stage: pictures are encoded and stored, and the request completes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

from models.imaging.decode import MEDIA_TYPES
from models.params import CommonParams
from models.pipeline import Pixels
from workers.engine.execute import Drawn
from workers.engine.in_order import InOrder
from workers.engine.job import Allowance
from workers.engine.outcome import Endings
from workers.engine.progress import Progress
from workers.errors import StoreUnavailable
from workers.state.record import Output, Result
from workers.store.base import Store

_FILES_OUTLIVE_RECORD_S: Final = 1.0
_BEHIND: Final = 12
_BEHIND_BYTES: Final = 64 * 1024**2
"""So many requests, and so many bytes of pixels, may be behind. To store small pictures is to wait for the disk, which
takes about as long for several as for one; large ones take the host's processors, and memory."""
_Kept = tuple[Progress, Result]


class Finisher:
    """Finishes requests on threads of its own, several at a time. They complete in their order."""

    def __init__(self, store: Store, endings: Endings, allowance: Allowance, result_ttl_s: int) -> None:
        self._store = store
        self._endings = endings
        self._allowance = allowance
        self._result_ttl_s = result_ttl_s
        self._threads = ThreadPoolExecutor(_BEHIND, "finisher")
        self._behind: deque[tuple[Future[None], int]] = deque()
        self._completing = InOrder(self._complete)

    def __call__(self, drawn: Drawn) -> None:
        """Have a request finished, as soon as there is room. Raises what went wrong with an earlier one."""
        size = drawn.pixels.nbytes
        self.wait_until_behind(_BEHIND - 1, _BEHIND_BYTES - size)
        self._behind.append((self._threads.submit(self._finish, drawn, self._completing.number()), size))

    def wait_until_behind(self, count: int, size: int = 0) -> None:
        """Wait until at most so many requests with so many bytes of pixels are behind, or none at all.

        Raises `DeviceBroken` if one of them found that out.
        """
        while self._behind:
            oldest, _ = self._behind[0]
            has_room = len(self._behind) <= count and sum(each for _, each in self._behind) <= size
            if has_room and not oldest.done():
                return
            self._behind.popleft()
            oldest.result()

    def close(self) -> None:
        """Wait until everything is stored."""
        wait([future for future, _ in self._behind])
        self._threads.shutdown()

    def _finish(self, drawn: Drawn, number: int) -> None:
        kept = None
        try:
            kept = self._kept(drawn)
        finally:
            self._completing.bring(number, kept)

    def _kept(self, drawn: Drawn) -> _Kept | None:
        job, progress = drawn.job, drawn.job.progress
        if self._endings.is_over(progress):
            return None
        try:
            with self._allowance.stage([progress]):
                outputs = self._keep(job.params, job.pipeline.finish(job.params, drawn.pixels), drawn.pixels)
        except Exception as error:  # noqa: BLE001 - a defect in a model must not end the worker
            self._endings.fail(progress, error)
            return None
        return progress, Result(progress.record, outputs, progress.seconds)

    def _complete(self, kept: Sequence[_Kept]) -> None:
        results = [result for _, result in kept]
        ended = self._endings.complete(results, [progress for progress, _ in kept])
        for result, completed in zip(results, ended, strict=False):
            # Elsewhere: to remove a file may mean to wait for the disk as well, and the next one is to complete.
            self._threads.submit(self._endings.tidy, result.record, completed, result.outputs)

    def _keep(self, params: CommonParams, files: list[bytes], pixels: Pixels) -> tuple[Output, ...]:
        """Store all pictures, or none."""
        height, width = pixels.shape[1:3]
        media_type, ttl_s = MEDIA_TYPES[params.output_format], self._result_ttl_s + _FILES_OUTLIVE_RECORD_S
        outputs: list[Output] = []
        try:
            for file in files:
                name = self._store.put(file, params.output_format, ttl_s)
                outputs.append(Output(name, media_type, len(file), width, height))
        except StoreUnavailable:
            self._endings.drop(output.name for output in outputs)
            raise
        return tuple(outputs)
