"""Pytrees of tensors: the inputs and outputs of functions that are compiled or captured.

`torch.utils._pytree` would do, but for what is needed here besides: which leaves are one and the same tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, TypeVar, cast

import torch
from torch import Tensor

Pytree: TypeAlias = "Tensor | tuple[Pytree, ...] | None"
"""A tensor, None, or a tuple (a NamedTuple too) of pytrees."""

Tree = TypeVar("Tree")


def tree_leaves(tree: object) -> Iterator[Tensor]:
    """All tensors of a pytree, in order; raises `TypeError` for anything that is not part of a pytree."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple):
        for part in tree:
            yield from tree_leaves(part)
    elif tree is not None:
        raise TypeError(f"{type(tree).__name__} cannot be an input: only tensors, None, and tuples of those.")


def tree_map(change: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """The same structure with `change` applied to every tensor, once to each distinct one.

    Leaves that are one and the same tensor stay so: compiled functions have guards for aliased inputs.
    """
    changed: dict[int, Tensor] = {}

    def once(tensor: Tensor) -> Tensor:
        if id(tensor) not in changed:
            changed[id(tensor)] = change(tensor)
        return changed[id(tensor)]

    return _tree_map(once, tree)


def _tree_map(change: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    if isinstance(tree, Tensor):
        return cast(Tree, change(tree))
    if not isinstance(tree, tuple):
        return tree
    parts = [_tree_map(change, part) for part in tree]
    return cast(Tree, type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts))


def input_signature(tree: object) -> str:
    """Structure, aliasing, and each tensor's dtype, device and shape: equal for interchangeable inputs only.

    Raises `TypeError` as `tree_leaves` does.
    """
    positions: dict[int, int] = {}
    for position, tensor in enumerate(tree_leaves(tree)):
        positions.setdefault(id(tensor), position)
    return _input_signature(tree, positions)


def _input_signature(tree: object, positions: Mapping[int, int]) -> str:
    if isinstance(tree, Tensor):
        return f"{positions[id(tree)]}:{tree.dtype}@{tree.device}{list(tree.shape)}"
    if isinstance(tree, tuple):
        return f"{type(tree).__name__}({' '.join(_input_signature(part, positions) for part in tree)})"
    return "-"


def to_inference_contiguous(tensor: Tensor) -> Tensor:
    """The tensor in the layout that graphs are compiled for: contiguous, and an inference tensor in inference mode."""
    if tensor.is_inference() or not torch.is_inference_mode_enabled():
        return tensor.contiguous()
    return tensor.clone(memory_format=torch.contiguous_format)
