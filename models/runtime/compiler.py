"""Compiling a function of a network with `torch.compile`, for dynamic or for fixed shapes.

Dynamo caches what it compiles by code object, not by callable: every compiled variant gets a code object of its own, so
that a graph for fixed shapes never takes the cache entry of the graph for dynamic ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor

from models.runtime.tree import Pytree, input_signature, to_inference_contiguous, tree_leaves, tree_map

Result = TypeVar("Result")
Backend = str | Callable[..., Any]


@dataclass(frozen=True)
class Compiler:
    """A backend of `torch.compile`, and the mode in which it compiles for fixed shapes."""

    backend: Backend = "inductor"
    mode: str = "default"

    def compiled(self, function: Callable[..., Result], *, dynamic: bool) -> Callable[..., Result]:
        """The function compiled as one graph at its first call; `dynamic`: dimensions marked so are symbolic."""
        # Kernels for dynamic shapes cannot be tuned for any one of them: max-autotune would only take long.
        mode = "default" if dynamic else self.mode
        compiled: Callable[..., Result] = torch.compile(
            _copy_function(function),
            fullgraph=True,
            dynamic=None if dynamic else False,
            backend=self.backend,
            mode=mode,
        )
        return compiled


def mark_dynamic(inputs: Sequence[Pytree], others: Sequence[Pytree]) -> tuple[Pytree, ...]:
    """A copy of `inputs` in which every dimension whose size differs in `others` is marked as dynamic.

    Raises `ValueError` if the two differ in structure or dtype, if a dynamic dimension has size 0 or 1 (which the
    compiler always specialises), or if two dynamic dimensions have equal sizes: it would unify them.
    """
    examples, counterparts = list(tree_leaves(tuple(inputs))), list(tree_leaves(tuple(others)))
    if _structure(inputs) != _structure(others):
        raise ValueError("The two examples must have the same structure and precision.")
    pairs = zip(examples, counterparts, strict=True)
    _check_sizes({sizes for pair in pairs for sizes in _dynamic_sizes(*pair)})
    copies = tuple(tree_map(lambda tensor: to_inference_contiguous(tensor).clone(), tree) for tree in inputs)
    for copy, counterpart in zip(tree_leaves(copies), counterparts, strict=True):
        for axis, (size, other) in enumerate(zip(copy.shape, counterpart.shape, strict=True)):
            if size != other:
                torch._dynamo.mark_dynamic(copy, axis)
    return copies


def _structure(inputs: Sequence[Pytree]) -> str:
    """The signature without sizes."""
    return input_signature(tree_map(lambda tensor: tensor.new_empty((0,) * tensor.ndim), tuple(inputs)))


def _dynamic_sizes(tensor: Tensor, other: Tensor) -> list[tuple[int, int]]:
    return [(a, b) for a, b in zip(tensor.shape, other.shape, strict=True) if a != b]


def _check_sizes(pairs: set[tuple[int, int]]) -> None:
    sizes = [size for size, _ in pairs]
    if len(set(sizes)) < len(sizes):
        raise ValueError("Two dynamic dimensions of the first example are equal by accident.")
    if min(sizes, default=2) < 2:
        raise ValueError("A dynamic dimension of the first example is below 2.")


def _copy_function(function: Callable[..., Result]) -> Callable[..., Result]:
    """The same function with a code object of its own."""
    if not isinstance(function, FunctionType):
        raise TypeError("Only plain functions can be compiled.")
    copy = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
