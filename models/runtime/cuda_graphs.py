"""CUDA graphs: a call is captured once and replayed over the same memory, without any Python in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, repeat
from typing import Any, Final, Generic, Protocol, TypeVar

import torch

from models.runtime.tree import Pytree, tree_leaves, tree_map

Result = TypeVar("Result")
Replay = Callable[[], None]
_WARM_UP_RUNS: Final = 3
"""Runs before capture, as PyTorch's notes on CUDA graphs advise: libraries initialise themselves in the first ones."""


class GraphCapturer(Protocol):
    """Runs a function of no arguments and captures the work that it launches."""

    def __call__(self, run: Callable[[], Result]) -> tuple[Replay, Result]:
        """A function that replays the work, and the result, whose memory every replay writes again."""


class CudaGraphCapturer:
    """Captures CUDA graphs. All graphs of a device share one memory pool: they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        """Capture on `device`, always in the same thread."""
        self._device = device

    def __call__(self, run: Callable[[], Result]) -> tuple[Replay, Result]:
        """Run it a few times on a side stream, then once more under capture."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            self._warm_up(run)
            # Other threads may use the device in the meantime: only this one's calls are captured or refused.
            with torch.cuda.graph(graph, pool=_pool(self._device), capture_error_mode="thread_local"):
                result = run()
        return graph.replay, result

    def _warm_up(self, run: Callable[[], object]) -> None:
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_RUNS):
                run()
        current.wait_stream(stream)


class CapturedGraph(Generic[Result]):
    """One captured call of a function: inputs are copied into its static buffers, results out of them."""

    def __init__(self, function: Callable[..., Result], inputs: Sequence[Pytree], capture: GraphCapturer) -> None:
        """Capture `function`, which takes the inputs alone, on copies of `inputs`."""
        # Each input is copied by itself: two that are one tensor now need not be so in every call.
        self._buffers = [tree_map(lambda tensor: tensor.clone(), tree) for tree in inputs]
        self._last: list[Pytree] = list(inputs)
        self._replay, self._result = capture(lambda: function(*self._buffers))

    def __call__(self, inputs: Sequence[Pytree]) -> Result:
        """The function's result for inputs of the captured structure and shapes; it belongs to the caller.

        A tensor within a tuple that was an input of the last call too is taken as unchanged and not copied again.
        """
        for index, tree in enumerate(inputs):
            self._fill(index, tree)
        self._replay()
        return tree_map(lambda tensor: tensor.clone(), self._result)

    def _fill(self, index: int, tree: Pytree) -> None:
        last = self._last[index] if isinstance(tree, tuple) else None
        if last is not None and tree is last:
            return
        # Reset first: a copy that is interrupted leaves a mixture behind.
        self._last[index] = None
        known = chain(tree_leaves(last), repeat(None))
        triples = zip(tree_leaves(self._buffers[index]), tree_leaves(tree), known, strict=False)
        # A buffer that is several leaves is filled once; a few kernels fill all, where a condition has 280 tensors.
        if changed := {buffer: tensor for buffer, tensor, before in triples if before is not tensor}:
            torch._foreach_copy_(list(changed), list(changed.values()))
        self._last[index] = tree


@cache
def _pool(_device: torch.device) -> Any:
    """The memory pool that graphs of a device share."""
    return torch.cuda.graph_pool_handle()
