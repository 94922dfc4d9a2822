"""Counting the bytes of results that live at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class _Live(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor) and not func.is_view:
                self.now += tensor.nbytes
                self.total += tensor.nbytes
                self.peak = max(self.peak, self.now)
                weakref.finalize(tensor, self._release, tensor.nbytes)
        return result

    def _release(self, size: int) -> None:
        self.now -= size


def peak_of_live_bytes(work: Callable[[], object]) -> tuple[int, int]:
    """The most bytes of results, views left out, that lived at a time in `work`, and the bytes of all of them."""
    live = _Live()
    with torch.no_grad(), live:
        work()
    return live.peak, live.total
