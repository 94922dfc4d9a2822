"""What one call of a compiled graph does on the device: launches, attention kernels, memory, layouts.

The call runs for real, over fake tensors: Inductor's wrapper allocates, launches and frees as it would on the device.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ATTENTION: Final = re.compile(r"_scaled_dot_product_(\w+?)_attention")
_NO_LAUNCH: Final = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "sym_size", "sym_stride")
"""Operators that only reserve memory or read a shape; views launch nothing either."""
_CONVOLUTIONS: Final = ("convolution", "cudnn_convolution")


@dataclass
class Evaluation:
    """What one call of a graph did.

    `dynamic`: whether the graph is for any size. `triton`: launches of each Triton kernel. `library`: calls of each
    operator that a library computes, such as matrix products; one is taken as one launch. `attention`: calls by kernel
    and width of a head. `kernels`: Triton kernels by name. `peak`: bytes of intermediate and output tensors alive at
    once, without the libraries' workspaces.
    """

    dynamic: bool
    triton: Counter[str] = field(default_factory=Counter)
    library: Counter[str] = field(default_factory=Counter)
    attention: Counter[str] = field(default_factory=Counter)
    kernels: dict[str, Any] = field(default_factory=dict)
    peak: int = 0
    not_channels_last: list[str] = field(default_factory=list)
    """Convolutions whose input or weight is not channels-last."""
    weights_read: list[str] = field(default_factory=list)
    """Triton kernels that read a weight matrix or a convolution's weight: they convert or copy it in every call."""

    @property
    def launches(self) -> int:
        """Kernels launched, as far as can be told from outside the libraries."""
        return self.triton.total() + self.library.total()


class Recorder(TorchDispatchMode):
    """Records one evaluation while it is the active mode; `launch` is to be called for each Triton kernel."""

    def __init__(self, dynamic: bool, inputs: Iterable[object], weights: Mapping[int, str]) -> None:
        """`inputs` are no intermediate memory; `weights`: names by `storage_of`."""
        super().__init__()
        self.evaluation = Evaluation(dynamic)
        self._weights = weights
        self._given = {storage_of(tensor) for tensor in inputs if isinstance(tensor, Tensor)}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def launch(self, kernel: Any, arguments: tuple[Any, ...]) -> None:
        """Note a launch of a Triton kernel."""
        name = kernel.fn.__name__
        self.evaluation.triton[name] += 1
        self.evaluation.kernels[name] = kernel
        for argument in arguments:
            weight = self._weights.get(storage_of(argument)) if isinstance(argument, Tensor) else None
            if weight is not None:
                self.evaluation.weights_read.append(f"{name} reads {weight}")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if definition := OPDEFS.get(func._schema.name):
            # An operator of the project's own, which the compiler does not look into: it launches what it calls.
            with self:
                return definition._init_fn(*args, **(kwargs or {}))
        if func.namespace != "prim":  # those, such as a tensor's device, are made of no others
            with self:  # what an operator of the project's own calls may still be made of others
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result
        name = func.overloadpacket.__name__
        if func.namespace != "prim" and name not in _NO_LAUNCH:
            self._note_operator(name, args)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._note_allocation(tensor)
        return result

    def _note_operator(self, name: str, args: tuple[Any, ...]) -> None:
        self.evaluation.library[name] += 1
        if kind := _ATTENTION.search(name):
            query, value = args[0], args[2]
            widths = dict.fromkeys((query.shape[-1], value.shape[-1]))
            self.evaluation.attention[f"{kind[1]} {'/'.join(map(str, widths))}"] += 1
        if name in _CONVOLUTIONS:
            for what, tensor in zip(("input", "weight"), args[:2], strict=True):
                if not tensor.is_contiguous(memory_format=torch.channels_last):
                    self.evaluation.not_channels_last.append(f"{what} {list(tensor.shape)} {tensor.stride()}")

    def _note_allocation(self, tensor: Tensor) -> None:
        key = storage_of(tensor)
        if tensor.device.type != "cuda" or key in self._given or key in self._live:
            return
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        storage = tensor.untyped_storage()
        self._live[key] = StorageWeakRef(storage), storage.nbytes()
        self.evaluation.peak = max(self.evaluation.peak, sum(size for _, size in self._live.values()))


def storage_of(tensor: Tensor) -> int:
    """A number that tensors share which share memory."""
    return tensor.untyped_storage()._cdata
