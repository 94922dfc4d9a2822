"""Whether the subject is still the photo's.

Relighting changes levels and may turn a bright edge into a dark one, but edges stay where they were and run in the same
direction. So the measure is the correlation of edges within the subject: gradients of the logarithm of the luma, their
angles doubled (which makes a bright-to-dark edge equal to a dark-to-bright one) and their strengths divided by what is
usual around them (so that the shadowed side counts as much as the lit one). It is 1 for the photo itself, 0.85 to 0.97
under a strong ramp of light, about 0.4 when a third is noise or details move by 2 % of the side, and between -0.05 and
0.05 for another photo.

The subject is an ellipse drawn by hand for each bundled photo, so that the measure needs no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from cli.accept.luma import box_means
from cli.accept.photos import Ellipse
from cli.accept.result import CheckResult, at_least
from models.imaging.types import Rgb

TITLE: Final = "Subject kept"
THRESHOLD: Final = 0.25
"""The least correlation: five times what another photo reaches by chance."""
_SIDE: Final = 256
_BLUR: Final = 1.5
_NEIGHBOURHOOD: Final = 12
_DARK: Final = 16.0
_FAINT: Final = 0.002


def kept(photo: Rgb, ellipse: Ellipse, relit: Sequence[Rgb]) -> CheckResult:
    """Check relit pictures of one size; the value is the median correlation with the photo's edges."""
    found = median(likeness(photo, ellipse, picture) for picture in relit)
    message = f"Agreement of the subject's edges with the photo's, median of {len(relit)}; another photo has 0."
    return at_least(TITLE, found, THRESHOLD, message)


def likeness(photo: Rgb, ellipse: Ellipse, picture: Rgb) -> float:
    """Correlation of the edges within the ellipse: -1..1. The photo is cut to the picture's shape at its centre."""
    size = _measured_size(picture)
    inside = np.asarray(ImageOps.fit(_mask(photo, ellipse), size)) > 127
    wanted = _edges(ImageOps.fit(Image.fromarray(photo), size, Image.Resampling.LANCZOS))[inside]
    found = _edges(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))[inside]
    strength = np.sqrt((np.abs(wanted) ** 2).sum() * (np.abs(found) ** 2).sum())
    return float((wanted * found.conj()).real.sum() / strength) if strength else 0.0


def _measured_size(picture: Rgb) -> tuple[int, int]:
    height, width = picture.shape[:2]
    scale = _SIDE / max(height, width)
    return round(width * scale), round(height * scale)


def _mask(photo: Rgb, ellipse: Ellipse) -> Image.Image:
    height, width = photo.shape[:2]
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).ellipse(ellipse.box(width, height), fill=255)
    return mask


def _edges(picture: Image.Image) -> NDArray[np.complex128]:
    """Direction (at twice its angle) and local strength of the edge at every pixel."""
    levels = np.asarray(picture.convert("L").filter(ImageFilter.GaussianBlur(_BLUR)), dtype=float)
    down, right = np.gradient(np.log(levels + _DARK))
    gradient = right + 1j * down
    strength = np.abs(gradient)
    doubled = np.divide(gradient**2, strength, out=np.zeros_like(gradient), where=strength > 0)
    return np.asarray(doubled / (box_means(strength, _NEIGHBOURHOOD) + _FAINT), dtype=np.complex128)
