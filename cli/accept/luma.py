"""Luma of images, and its means over blocks and boxes."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.imaging.types import Floats, Rgb

_LUMA: Final = (0.299, 0.587, 0.114)


def luma(picture: Rgb) -> Floats:
    """Luma of every pixel (ITU-R BT.601, on the encoded values): [height, width] in 0..255."""
    return np.asarray(picture @ np.array(_LUMA))


def block_means(levels: Floats, side: int) -> Floats:
    """Means of blocks of `side` x `side` px; an incomplete row or column of blocks is left out."""
    rows, columns = (extent // side for extent in levels.shape)
    whole = levels[: rows * side, : columns * side]
    return np.asarray(whole.reshape(rows, side, columns, side).mean((1, 3)))


def box_means(levels: Floats, radius: int) -> Floats:
    """Mean of the square of `2 * radius + 1` px around every pixel, with mirrored edges."""
    width = 2 * radius + 1
    padded = np.pad(levels, ((radius + 1, radius), (radius + 1, radius)), mode="reflect")
    sums = padded.cumsum(0).cumsum(1)
    squares = sums[width:, width:] - sums[:-width, width:] - sums[width:, :-width] + sums[:-width, :-width]
    return np.asarray(squares / width**2)
