"""Smooth random fields and soft random outlines, from which pictures are rendered.

Fields are float32, [height, width]; outlines are points (x, y) in 0..1 of a picture's width and height. Smooth fields
are computed at a reduced size and enlarged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter
from skimage.filters import gaussian

Field = npt.NDArray[np.float32]
"""[height, width]."""
Colours = npt.NDArray[np.float32]
"""[height, width, 3] of red, green and blue in 0..1."""
Colour = npt.NDArray[np.float32]
"""[3] of the same."""
Points = npt.NDArray[np.float64]
"""[n, 2] of x and y in 0..1."""

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
_OUTLINE_POINTS: Final = 48
_SUPERSAMPLING: Final = 2
"""Outlines are rasterised at this multiple of the size and reduced, against aliasing."""


def as_float32(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The same values in single precision; not copied where they are already."""
    return np.asarray(values, dtype=np.float32)


def enlarge(field: npt.NDArray[np.floating], width: int, height: int) -> Field:
    """Scale a small field to a picture's size, in px, along smooth curves."""
    small = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def luma(colours: Colours) -> Field:
    """Brightness [height, width] in 0..1 of red, green and blue."""
    return as_float32(colours @ _LUMA)


def smooth_noise(rng: np.random.Generator, width: int, height: int, cells: int) -> Field:
    """Random hills, in -1..1, about `cells` along the shorter side."""
    scale = cells / min(width, height)
    shape = (2 + round(height * scale), 2 + round(width * scale))
    return as_float32(np.clip(enlarge(rng.uniform(-1, 1, shape), width, height), -1, 1))


def blur(field: Field, sigma: float) -> Field:
    """Gaussian of `sigma` px, computed at a size at which it is a few px wide; edges go on as they are."""
    height, width = field.shape
    reduction = max(1.0, sigma / 2)
    size = (max(8, round(width / reduction)), max(8, round(height / reduction)))
    small = np.asarray(Image.fromarray(field).resize(size, Image.Resampling.BOX))
    spread = (sigma * size[1] / height, sigma * size[0] / width)
    return enlarge(gaussian(small, spread, mode="nearest", truncate=3), width, height)


def colour_noise(rng: np.random.Generator, width: int, height: int, cells: int) -> Colours:
    """Random hills of colour over all of 0..1."""
    fields = [0.5 + 0.6 * smooth_noise(rng, width, height, cells) for _ in range(3)]
    return as_float32(np.clip(np.stack(fields, axis=-1), 0, 1))


def rasterise(outlines: Sequence[Points], width: int, height: int, softness: float = 0.7) -> Field:
    """Fill outlines: 1 inside, 0 outside, with edges `softness` px soft (sigma)."""
    canvas = Image.new("L", (_SUPERSAMPLING * width, _SUPERSAMPLING * height))
    draw = ImageDraw.Draw(canvas)
    for outline in outlines:
        draw.polygon([(_SUPERSAMPLING * width * x, _SUPERSAMPLING * height * y) for x, y in outline.tolist()], fill=255)
    small = canvas.resize((width, height), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(softness))
    return as_float32(np.asarray(small)) / np.float32(255)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, turned: float = 0.0) -> Points:
    """An ellipse around x, y; `turned` is in radians."""
    angles = np.linspace(0, 2 * np.pi, _OUTLINE_POINTS, endpoint=False)
    along, across = radius_x * np.cos(angles), radius_y * np.sin(angles)
    cosine, sine = np.cos(turned), np.sin(turned)
    return np.stack((x + along * cosine - across * sine, y + along * sine + across * cosine), axis=-1)


def rounded(corners: Points, times: int = 3) -> Points:
    """Cut a closed outline's corners, each time at a quarter of its sides (Chaikin)."""
    for _ in range(times):
        following = np.roll(corners, -1, axis=0)
        cut = np.stack((0.75 * corners + 0.25 * following, 0.25 * corners + 0.75 * following), axis=1)
        corners = cut.reshape(-1, 2)
    return corners


def random_outlines(rng: np.random.Generator) -> list[Points]:
    """A blob, an ellipse, a rounded polygon or a union of two or three of them, often beyond the lower edge."""
    x, y = rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.95)
    size = rng.uniform(0.22, 0.5)
    main = _outline(rng, x, y, size)
    if rng.random() < 0.65:
        return [main]
    more = [(x + rng.normal(0, 0.18), y + rng.normal(0, 0.18)) for _ in range(rng.integers(1, 3))]
    return [main, *(_outline(rng, *centre, size * rng.uniform(0.4, 0.9)) for centre in more)]


def _outline(rng: np.random.Generator, x: float, y: float, size: float) -> Points:
    kind = rng.random()
    wide, high = size * rng.uniform(0.7, 1.2), size * rng.uniform(0.8, 1.5)
    if kind < 0.3:
        return ellipse(x, y, wide, high, rng.uniform(-0.6, 0.6))
    if kind < 0.65:
        return _blob(rng, x, y, wide, high)
    return _rounded_polygon(rng, x, y, wide, high)


def _blob(rng: np.random.Generator, x: float, y: float, wide: float, high: float) -> Points:
    angles = np.linspace(0, 2 * np.pi, _OUTLINE_POINTS, endpoint=False)
    radius = np.ones_like(angles)
    for waves in range(2, 7):
        radius += rng.normal(0, 0.35 / waves) * np.cos(waves * angles + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.35, 1.6)
    return np.stack((x + wide * radius * np.cos(angles), y + high * radius * np.sin(angles)), axis=-1)


def _rounded_polygon(rng: np.random.Generator, x: float, y: float, wide: float, high: float) -> Points:
    corners = int(rng.integers(3, 8))
    angles = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners + rng.uniform(0, 2 * np.pi)
    radius = rng.uniform(0.8, 1.25, corners)
    points = np.stack((x + wide * radius * np.cos(angles), y + high * radius * np.sin(angles)), axis=-1)
    return rounded(points, int(rng.integers(1, 4)))
