"""Linear layers of many blocks over one text, in a few matrix products.

A UNet projects a text for each of its cross-attentions, 140 times in SDXL. On a GPU that is a launch each, and each is
too small to fill it. Weights that lie side by side in memory are one operand of a batched product; they stay the
layers' own parameters, as views, so that loading into them in place, deduplicating and quantising them need not know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


def lay_side_by_side(weights: Iterable[Tensor]) -> None:
    """Move contiguous weights of equal shapes, in their order, into one block of memory each; in place."""
    for places in _by_shape(tensors := list(weights)):
        block = torch.stack([tensors[place].detach() for place in places])
        for place, part in zip(places, block.unbind(), strict=True):
            tensors[place].data = part


def weights_for_device(weights: Iterable[Tensor], device: torch.device) -> None:
    """`lay_side_by_side` on CUDA; elsewhere launches cost nothing, and weights may be a file's mapping."""
    if device.type == "cuda":
        lay_side_by_side(weights)


def project(x: Tensor, weights: Sequence[Tensor], rows: Tensor | None = None) -> list[Tensor]:
    """What layers of `weights` [wide, width], without bias, make of `x` [texts, tokens, width]: [texts, tokens, wide].

    `rows` repeats the texts, see `repeat`. Results of weights that lie side by side, in whatever order, are slices of
    one tensor.
    """
    results: dict[int, Tensor] = {}
    for places in _by_shape(weights):
        places.sort(key=lambda place: weights[place].storage_offset())
        found = [weights[place] for place in places]
        make = _project_together if _are_side_by_side(found) else _project_each
        results |= zip(places, make(x, found, rows), strict=True)
    return [results[place] for place in range(len(weights))]


def repeat(x: Tensor, rows: Tensor | None, dim: int = 0) -> Tensor:
    """The entries of `x` along `dim` that `rows` names, None for all as they are."""
    return x if rows is None else x.index_select(dim, rows)


def _project_each(x: Tensor, weights: Sequence[Tensor], rows: Tensor | None) -> list[Tensor]:
    return [repeat(F.linear(x, weight), rows) for weight in weights]


def _project_together(x: Tensor, weights: Sequence[Tensor], rows: Tensor | None) -> Sequence[Tensor]:
    first = weights[0]
    block = first.as_strided((len(weights), *first.shape), (first.numel(), *first.stride()))
    every = x.flatten(0, 1).expand(len(weights), -1, -1)
    products = torch.bmm(every, block.transpose(1, 2)).view(len(weights), *x.shape[:2], -1)
    return repeat(products, rows, dim=1).unbind()


def _are_side_by_side(weights: Sequence[Tensor]) -> bool:
    """Whether they follow each other in one block of memory; one alone does not."""
    size, memory = weights[0].numel(), weights[0].untyped_storage().data_ptr()
    in_one_block = all(weight.is_contiguous() and weight.untyped_storage().data_ptr() == memory for weight in weights)
    offsets = [weight.storage_offset() for weight in weights]
    return len(weights) > 1 and in_one_block and all(after - before == size for before, after in pairwise(offsets))


def _by_shape(weights: Sequence[Tensor]) -> Iterable[list[int]]:
    """Positions of the weights of each shape."""
    places: defaultdict[torch.Size, list[int]] = defaultdict(list)
    for place, weight in enumerate(weights):
        places[weight.shape].append(place)
    return places.values()
