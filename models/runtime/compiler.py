"""Compiling a function of a network with `torch.compile`, for sizes that are free or fixed.

What is compiled belongs to a code object, not to a callable: every compiled variant gets a code object of its own, so
that a graph for one size never stands in the way of the graph for all sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor

from models.runtime.tree import Value, leaves, mapped, plain, signature

Result = TypeVar("Result")
Backend = str | Callable[..., Any]


@dataclass(frozen=True)
class Compiler:
    """What turns graphs into kernels: a backend of `torch.compile`, and how hard it tries where sizes are fixed."""

    backend: Backend = "inductor"
    mode: str = "default"

    def compiled(self, function: Callable[..., Result], *, free: bool) -> Callable[..., Result]:
        """The function compiled as one graph, at its first call; `free`: sizes that are marked are free."""
        # Kernels for free sizes cannot be tuned for any one of them: trying hard would only take long.
        mode = "default" if free else self.mode
        dynamic = None if free else False
        compiled: Callable[..., Result] = torch.compile(
            _twin(function), fullgraph=True, dynamic=dynamic, backend=self.backend, mode=mode
        )
        return compiled


def freed(inputs: Sequence[Value], others: Sequence[Value]) -> tuple[Value, ...]:
    """A copy of `inputs` in which every size that `others` have otherwise is marked as free.

    Raises `ValueError` if the two are not of one structure, if a size is 0 or 1 (a compiler never takes these as free),
    or if two free sizes are equal by accident: such are taken for one and the same.
    """
    examples, twins = list(leaves(tuple(inputs))), list(leaves(tuple(others)))
    if _structure(inputs) != _structure(others):
        raise ValueError("The two examples must have the same structure and precision.")
    _check_sizes({(size, other) for pair in zip(examples, twins, strict=True) for size, other in _free_sizes(*pair)})
    copies = tuple(mapped(lambda tensor: plain(tensor).clone(), value) for value in inputs)
    for copy, twin in zip(leaves(copies), twins, strict=True):
        for axis, (size, other) in enumerate(zip(copy.shape, twin.shape, strict=True)):
            if size != other:
                torch._dynamo.mark_dynamic(copy, axis)
    return copies


def _structure(values: Sequence[Value]) -> str:
    """The values' structure and precision, with sizes left out."""
    return signature(mapped(lambda tensor: tensor.new_empty((0,) * tensor.ndim), tuple(values)))


def _free_sizes(tensor: Tensor, other: Tensor) -> list[tuple[int, int]]:
    return [(a, b) for a, b in zip(tensor.shape, other.shape, strict=True) if a != b]


def _check_sizes(pairs: set[tuple[int, int]]) -> None:
    sizes = [size for size, _ in pairs]
    if len(set(sizes)) < len(sizes):
        raise ValueError("Two sizes of the first example are equal by accident.")
    if min(sizes, default=2) < 2:
        raise ValueError("A free size of the first example is below 2.")


def _twin(function: Callable[..., Result]) -> Callable[..., Result]:
    """The same function with a code object of its own."""
    if not isinstance(function, FunctionType):
        raise TypeError("Only plain functions can be compiled.")
    twin = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin
