"""Counting what is computed, on the meta device: networks of full size without weights, in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

META: Final = torch.device("meta")
_FREE: Final = ("_unsafe_view", "_reshape_alias", "empty", "empty_like", "empty_strided", "new_empty")
"""Operators that compute nothing, besides views: they name their input anew, or reserve memory."""


class ReadAsZero(TorchFunctionMode):
    """Tensors of the meta device hold nothing; where a request reads one back to the host, it gets zeros."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is Tensor.cpu and args[0].is_meta:
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        if func is Tensor.__bool__ and args[0].is_meta:
            return False
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own __init_subclass__
    """Counts operators that compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count += not func.is_view and func.overloadpacket.__name__ not in _FREE
        return func(*args, **(kwargs or {}))


class _WholeAttention(TorchFunctionMode):
    """Gives an attention's result as one operator, as devices have it, where the meta device takes it apart."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_zeros(*query.shape[:-1], value.shape[-1])
        return func(*args, **(kwargs or {}))


def flop(request: Callable[[], object]) -> int:
    """What matrix products, convolutions and attention of `request` cost; a multiplication with its sum counts 2."""
    with FlopCounterMode(display=False) as counter, ReadAsZero():
        request()
    total: int = counter.get_total_flops()
    return total


def operators(evaluation: Callable[[], object]) -> int:
    """How many operators compute in `evaluation`: views are free, an attention is one."""
    counter = _Operators()
    with torch.no_grad(), _WholeAttention(), counter:
        evaluation()
    return counter.count
