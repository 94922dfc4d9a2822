"""Work that was recorded once and is replayed over the same memory, without a step of Python in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, repeat
from typing import Any, Final, Generic, Protocol, TypeVar

import torch

from models.runtime.tree import Value, leaves, mapped

Result = TypeVar("Result")
Replay = Callable[[], None]
_TRIALS: Final = 3
"""Runs before recording, as PyTorch's notes on CUDA graphs advise: libraries set themselves up in the first ones."""


class Recorder(Protocol):
    """Runs a function of no arguments, and remembers what it did with which memory."""

    def __call__(self, run: Callable[[], Result]) -> tuple[Replay, Result]:
        """How to do the same once more, and the result, whose memory every replay fills anew."""


class CudaRecorder:
    """Records CUDA graphs. All graphs of a device share one pool of memory: they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        """Record on `device`, always in the same thread."""
        self._device = device

    def __call__(self, run: Callable[[], Result]) -> tuple[Replay, Result]:
        """Run it a few times, then once more while recording."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            self._try(run)
            # Other threads may use the device in the meantime: only this one's calls are recorded or refused.
            with torch.cuda.graph(graph, pool=_pool(self._device), capture_error_mode="thread_local"):
                result = run()
        return graph.replay, result

    def _try(self, run: Callable[[], object]) -> None:
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(_TRIALS):
                run()
        current.wait_stream(stream)


class CapturedGraph(Generic[Result]):
    """One recorded call of a function: inputs are copied to where it read them, results from where it wrote them."""

    def __init__(self, function: Callable[..., Result], inputs: Sequence[Value], record: Recorder) -> None:
        """Record `function`, which takes the inputs alone, with copies of `inputs`."""
        # Each for itself: a tensor that is two inputs now need not be so in every call.
        self._buffers = [mapped(lambda tensor: tensor.clone(), value) for value in inputs]
        self._given: list[Value] = list(inputs)
        self._replay, self._result = record(lambda: function(*self._buffers))

    def __call__(self, inputs: Sequence[Value]) -> Result:
        """The function's result for inputs of the recorded structure and sizes; it belongs to the caller.

        A tensor within a tuple that was there at the last call too is taken as unchanged and not copied again.
        """
        for index, value in enumerate(inputs):
            self._fill(index, value)
        self._replay()
        return mapped(lambda tensor: tensor.clone(), self._result)

    def _fill(self, index: int, value: Value) -> None:
        last = self._given[index] if isinstance(value, tuple) else None
        if last is not None and value is last:
            return
        # Forgotten first: a copy that breaks off leaves a mixture behind.
        self._given[index] = None
        known = chain(leaves(last), repeat(None))
        triples = zip(leaves(self._buffers[index]), leaves(value), known, strict=False)
        # A buffer that stands in several places is filled once.
        for buffer, tensor in {buffer: tensor for buffer, tensor, before in triples if before is not tensor}.items():
            buffer.copy_(tensor)
        self._given[index] = value


@cache
def _pool(_device: torch.device) -> Any:
    """The memory that graphs of a device share."""
    return torch.cuda.graph_pool_handle()
