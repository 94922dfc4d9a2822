"""Metrics of pictures: brightness of halves, fidelity, colour, noise. Pure functions.

Levels are the stored ones, 0..255. Luma, Cb and Cr are those of ITU-R BT.601 at full range, as JPEG has them; a* and
b* those of CIELAB under D65.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from skimage.color import rgb2lab
from skimage.filters import gaussian

from models.imaging.types import Floats
from training.data.photos import Picture

Mask = npt.NDArray[np.bool_]
"""Which pixels count, [height, width]."""
Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in px."""
Axis = Literal["left/right", "top/bottom"]
NOISE_SIGMA: Final = 12.0
"""Sigma, in px of a picture 768 px wide, of the Gaussian that separates noise from shading."""
LEAST_MASK: Final = 0.05
"""Least share of the picture that a mask has to cover."""
_LEAST_HALF: Final = 0.01
_REFERENCE_WIDTH: Final = 768
_DARKEST: Final = 0.5
"""Level that a black half counts as."""
_LUMA: Final = (0.299, 0.587, 0.114)
_CHROMA: Final = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def luma(picture: Picture) -> Floats:
    """Brightness of every pixel: [height, width] in 0..255."""
    return np.asarray(picture @ np.array(_LUMA))


def light_quotient(near: Picture, far: Picture, axis: Axis, mask: Mask | None = None) -> float | None:
    """(near half / far half) of the picture lit from the left or top, divided by that of the one lit from opposite.

    Halves are those of the picture, their brightness is the mean luma of the pixels in `mask`. 1 if the light has no
    effect. None if less than `LEAST_MASK` of the pixels count, or hardly any in one half.
    """
    counted = np.ones(near.shape[:2], bool) if mask is None else mask
    shares = [half.sum() / counted.size for half in _halves(counted, axis)]
    if sum(shares) < LEAST_MASK or min(shares) < _LEAST_HALF:
        return None
    return _balance(near, axis, counted) / _balance(far, axis, counted)


def psnr(picture: Picture, other: Picture) -> float:
    """Peak signal-to-noise ratio over all three channels, in dB; infinite for equal pictures."""
    error = float(np.square(picture.astype(float) - other).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def chroma_error(picture: Picture, other: Picture) -> float:
    """(mean |difference of Cb| + mean |difference of Cr|) / 2, in levels."""
    difference = (picture.astype(float) - other) @ np.array(_CHROMA).T
    return float(np.abs(difference).mean())


def mean_chroma(picture: Picture) -> tuple[float, float]:
    """Means of a* (green to red) and b* (blue to yellow)."""
    lab = rgb2lab(picture)
    return float(lab[..., 1].mean()), float(lab[..., 2].mean())


def flat_noise(picture: Picture, boxes: Sequence[Box]) -> float:
    """Standard deviation, in levels, of the luma in boxes of plain background, less the luma blurred.

    What is subtracted is the whole picture under a Gaussian of `NOISE_SIGMA`, scaled with the picture's width: a slow
    gradient of light is not noise. Boxes should keep twice that from the subject.
    """
    levels = luma(picture)
    sigma = NOISE_SIGMA * picture.shape[1] / _REFERENCE_WIDTH
    fine = levels - gaussian(levels, sigma, mode="nearest", preserve_range=True)
    # Pooled, each box about its own mean: a constant offset of a box is not noise.
    return float(np.concatenate([part - part.mean() for part in _cut(fine, boxes)]).std())


def box_luma(picture: Picture, boxes: Sequence[Box]) -> float:
    """Mean luma in the boxes, 0..255: black boxes have no noise, so noise is reported with it."""
    return float(np.concatenate(_cut(luma(picture), boxes)).mean())


def _cut(values: Floats, boxes: Sequence[Box]) -> list[Floats]:
    return [values[top:bottom, left:right].ravel() for left, top, right, bottom in boxes]


def _balance(picture: Picture, axis: Axis, mask: Mask) -> float:
    first, second = (
        max(float(half[inside].mean()), _DARKEST)
        for half, inside in zip(_halves(luma(picture), axis), _halves(mask, axis), strict=True)
    )
    return first / second


def _halves(values: npt.NDArray[Any], axis: Axis) -> list[npt.NDArray[Any]]:
    along = 1 if axis == "left/right" else 0
    return np.split(values, [values.shape[along] // 2], along)
