"""Increments of a Brownian path over many intervals at once, with the bits of `torchsde.BrownianTree`.

The path is a binary tree. A node is an interval and has the path's increment over it; at the midpoint it splits into
two, by noise of a seed of its own (a Brownian bridge). What lies deeper follows from the seed alone, so an interval has
the same increment whatever else is asked for. An interval is the sum of the largest nodes that make it up, from left to
right; ends of nodes are rounded to six digits.

torchsde serves one interval after the other, and samples the noise of a node once for each of its halves. Here the tree
is walked once for all intervals, and only the nodes from the root to the current one are in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

Interval = tuple[float, float]
"""(from, to), from < to."""
_DIGITS: Final = 6
_POOL_SIZE: Final = 24
"""torchsde's size of a seed's entropy pool."""


def brownian_increments(
    shape: tuple[int, ...], seed: int, path: Interval, intervals: Sequence[Interval]
) -> list[Tensor]:
    """Increments over `intervals` of the path that `seed` in 0..2^53-1 gives on `path`: float32 [*shape] on the CPU.

    Intervals are clipped to the path, and must be longer than the rounding of their ends.
    """
    start, end = (round(point, _DIGITS) for point in path)
    clipped = [(round(max(low, start), _DIGITS), round(min(high, end), _DIGITS)) for low, high in intervals]
    sums: list[Tensor | None] = [None] * len(clipped)

    def visit(node: Interval, key: int, depth: int, increment: Tensor, numbers: Sequence[int]) -> None:
        """Add a node to the intervals `numbers` that contain it; descend for those that contain a part of it."""
        low, high = node
        overlapping = [number for number in numbers if clipped[number][0] < high and clipped[number][1] > low]
        partial = [number for number in overlapping if clipped[number][0] > low or clipped[number][1] < high]
        for number in set(overlapping) - set(partial):
            known = sums[number]
            sums[number] = increment.clone() if known is None else known.add_(increment)
        if not partial:
            return
        middle = round(0.5 * (high + low), _DIGITS)
        left, right = _split(increment, _noise(shape, seed, (key, depth)), middle - low, high - middle, high - low)
        visit((low, middle), 2 * key, depth + 1, left, partial)
        visit((middle, high), 2 * key + 1, depth + 1, right, partial)

    whole = _noise(shape, seed, ()) * math.sqrt(path[1] - path[0])
    visit((start, end), 0, 0, whole, range(len(clipped)))
    found = [total for total in sums if total is not None]
    assert len(found) == len(clipped), "an interval is outside of the path"
    return found


def _noise(shape: tuple[int, ...], seed: int, spawn_key: tuple[int, ...]) -> Tensor:
    """Unit noise of the node that `spawn_key`, (number from the left, depth), names; `()` is the path as a whole."""
    state = np.random.SeedSequence(entropy=seed, spawn_key=spawn_key, pool_size=_POOL_SIZE).generate_state(1)
    return torch.randn(shape, generator=torch.Generator().manual_seed(int(state[0])))


def _split(whole: Tensor, noise: Tensor, left: float, right: float, length: float) -> tuple[Tensor, Tensor]:
    """Increments of a node's halves, `left` and `right` long. Overwrites `noise`.

    Every operation rounds as torchsde's does: (left * whole) * (1 / length), not left / length * whole.
    """
    reciprocal = 1 / length
    first = torch.mul(whole, left).mul_(reciprocal).add_(noise.mul_(math.sqrt(left * right * reciprocal)))
    return first, torch.sub(whole, first, out=noise)
