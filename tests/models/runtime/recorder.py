"""A stand-in for CUDA graphs: it does again what was recorded, from and into the very same memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from models.runtime.cuda_graphs import Replay
from models.runtime.tree import leaves

Result = TypeVar("Result")


class PlayedRecorder:
    """Counts what was recorded and replayed."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, run: Callable[[], Result]) -> tuple[Replay, Result]:
        self.recorded += 1
        result = run()

        def replay() -> None:
            self.replayed += 1
            for kept, new in zip(leaves(result), leaves(run()), strict=True):
                kept.copy_(new)

        return replay, result
