"""What goes into and comes out of functions that are compiled or captured: tensors, None, and tuples of such."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, TypeVar, cast

import torch
from torch import Tensor

Value: TypeAlias = "Tensor | tuple[Value, ...] | None"
"""A tensor, None, or a tuple (a NamedTuple too) of values."""

Tree = TypeVar("Tree")


def leaves(value: object) -> Iterator[Tensor]:
    """All tensors of a value, in order; raises `TypeError` for what is none of a value's kinds."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from leaves(part)
    elif value is not None:
        raise TypeError(f"{type(value).__name__} cannot be an input: only tensors, None, and tuples of those.")


def mapped(change: Callable[[Tensor], Tensor], value: Tree) -> Tree:
    """The same value with every tensor changed; what was one and the same tensor in several places still is.

    Compiled functions know which of their inputs are the same.
    """
    changed: dict[int, Tensor] = {}

    def once(tensor: Tensor) -> Tensor:
        if id(tensor) not in changed:
            changed[id(tensor)] = change(tensor)
        return changed[id(tensor)]

    return _mapped(once, value)


def _mapped(change: Callable[[Tensor], Tensor], value: Tree) -> Tree:
    if isinstance(value, Tensor):
        return cast(Tree, change(value))
    if not isinstance(value, tuple):
        return value
    parts = [_mapped(change, part) for part in value]
    return cast(Tree, type(value)(*parts) if hasattr(value, "_fields") else tuple(parts))


def signature(value: object) -> str:
    """The value's structure and its tensors' precision, device and sizes, as a word: equal for like values only.

    It also tells which tensors are one and the same. Raises `TypeError` as `leaves` does.
    """
    places: dict[int, int] = {}
    for place, tensor in enumerate(leaves(value)):
        places.setdefault(id(tensor), place)
    return _signature(value, places)


def _signature(value: object, places: Mapping[int, int]) -> str:
    if isinstance(value, Tensor):
        return f"{places[id(value)]}:{value.dtype}@{value.device}{list(value.shape)}"
    if isinstance(value, tuple):
        return f"{type(value).__name__}({' '.join(_signature(part, places) for part in value)})"
    return "-"


def plain(tensor: Tensor) -> Tensor:
    """The tensor as the compiler knows it from its examples: contiguous, and made in inference mode."""
    if tensor.is_inference() or not torch.is_inference_mode_enabled():
        return tensor.contiguous()
    return tensor.clone(memory_format=torch.contiguous_format)
