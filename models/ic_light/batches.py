"""How many pictures go through a network together (IC-Light specification section 13)."""

from __future__ import annotations

from typing import Final

MAX_PIXELS: Final = 3072 * 3072
"""Pixels of one batch: those of the largest picture that is served, whose memory is needed anyway. Twelve pictures of
the default size fit."""


MAX_PICTURES: Final = 24
"""Rows of one batch, half of them for guidance: kernels for memory formats with channels last fail beyond 63."""


def max_batch(width: int, height: int) -> int:
    """How many pictures of `width` x `height` px make a batch, at least one."""
    return max(1, min(MAX_PICTURES, MAX_PIXELS // (width * height)))
