"""A fake for CUDA graphs: a replay runs the captured function again, from and into the very same memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from models.runtime.cuda_graphs import Replay
from models.runtime.tree import tree_leaves

Result = TypeVar("Result")


class FakeGraphCapturer:
    """Counts what was captured and replayed."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, run: Callable[[], Result]) -> tuple[Replay, Result]:
        self.captured += 1
        result = run()

        def replay() -> None:
            self.replayed += 1
            for kept, new in zip(tree_leaves(result), tree_leaves(run()), strict=True):
                kept.copy_(new)

        return replay, result
