"""Rendered subjects with soft shading of their own: portraits, and objects of plain colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from training.data.shapes import (
    Colour,
    Colours,
    Field,
    Points,
    as_float32,
    ellipse,
    rasterise,
    rounded,
    smooth_noise,
)
from training.data.textures import procedural_texture, random_colour, skin_colour

Rendering = tuple[Colours, Field]
"""Colours [height, width, 3] in 0..1, and alpha."""

_SHOULDERS: Final = np.array(
    [(-1.0, 1.5), (-0.92, 0.35), (-0.55, 0.12), (0.0, 0.0), (0.55, 0.12), (0.92, 0.35), (1.0, 1.5)]
)
_HAIR: Final = as_float32(
    [(0.05, 0.04, 0.04), (0.22, 0.13, 0.08), (0.42, 0.26, 0.13), (0.82, 0.65, 0.36), (0.6, 0.6, 0.6), (0.55, 0.2, 0.1)]
)
_EYES: Final = as_float32([(0.25, 0.15, 0.08), (0.25, 0.45, 0.65), (0.3, 0.45, 0.25)])


class _Canvas:
    """Colours painted over one another; alpha is where anything is."""

    def __init__(self, colours: Colours) -> None:
        self.colours = colours
        self.height, self.width = colours.shape[:2]
        self.alpha: Field = np.zeros((self.height, self.width), np.float32)

    def fill(
        self, colour: Colours, *outlines: Points, softness: float = 0.7, strength: float = 1.0, adds: bool = True
    ) -> None:
        """Paint outlines with a colour [3] or colours [height, width, 3]; `adds` False leaves alpha unchanged."""
        mask = np.float32(strength) * rasterise(outlines, self.width, self.height, softness)
        if adds:
            self.alpha = np.maximum(self.alpha, mask)
        self.colours = self.colours + (colour - self.colours) * mask[..., None]

    def finish(self, rng: np.random.Generator) -> Rendering:
        """Multiply by smooth shading, like a photo's own light."""
        shade = 1 + np.float32(rng.uniform(0, 0.16)) * smooth_noise(rng, self.width, self.height, 2)
        return as_float32(np.clip(self.colours * shade[..., None], 0, 1)), self.alpha


@dataclass(frozen=True)
class _Head:
    """Centre and half the size of a head, as shares of the picture's width and height."""

    x: float
    y: float
    wide: float
    tall: float

    def place(self, *outlines: Points) -> list[Points]:
        """Transform outlines from units of half a head around its centre to picture coordinates."""
        return [np.asarray(outline * (self.wide, self.tall) + (self.x, self.y)) for outline in outlines]


def render_portrait(rng: np.random.Generator, width: int, height: int) -> Rendering:
    """Shoulders, neck, an oval head with hair and a face; skin, clothes and hair of any colour."""
    canvas = _Canvas(procedural_texture(rng, width, height))
    tall = rng.uniform(0.16, 0.32)
    wide = tall * rng.uniform(0.70, 0.80) * height / width
    head = _Head(rng.uniform(0.38, 0.62), rng.uniform(tall + 0.05, 0.5), wide, tall)
    skin, hair = skin_colour(rng), _HAIR[rng.integers(len(_HAIR))] * np.float32(rng.uniform(0.8, 1.2))
    if rng.random() < 0.5:
        canvas.fill(hair, *head.place(ellipse(0, 0.35, 1.28, rng.uniform(1.4, 1.9))), softness=1.5)
    canvas.fill(skin * 0.82, *head.place(ellipse(0, 1.1, 0.48, 0.6)))
    clothes = procedural_texture(rng, width, height) if rng.random() < 0.5 else random_colour(rng)
    shoulders = rounded(_SHOULDERS * (rng.uniform(2.1, 2.8), 3.0) + (0, rng.uniform(1.25, 1.45)), 2)
    canvas.fill(clothes, *head.place(shoulders))
    canvas.fill(skin * 0.9, *head.place(ellipse(0, 1.25, 0.46, 0.32)))
    canvas.fill(skin, *head.place(ellipse(0, 0, 1, 1)), softness=1.0)
    canvas.fill(hair, *head.place(_hair(rng)), softness=1.3)
    _paint_face(canvas, rng, head, skin, hair)
    return canvas.finish(rng)


def render_object(rng: np.random.Generator, width: int, height: int) -> Rendering:
    """A bottle, vase or cup, a ball, or a box, with one or two colours of its own."""
    kind = rng.random()
    if kind < 0.55:
        return _render_vessel(rng, width, height)
    return _render_ball(rng, width, height) if kind < 0.78 else _render_box(rng, width, height)


def _hair(rng: np.random.Generator) -> Points:
    """The outline of hair over a forehead and around the upper head."""
    line, side = rng.uniform(-0.65, -0.42), rng.uniform(-0.35, 0.35)
    crown = ellipse(0, -0.12, rng.uniform(1.06, 1.2), rng.uniform(1.05, 1.18))
    upper = crown[crown[:, 1] < 0.1]
    from_left = upper[np.argsort(np.arctan2(upper[:, 0], -0.12 - upper[:, 1]))]
    fringe = np.array([(-0.92, 0.1), (-0.75, line + 0.25), (side, line), (0.75, line + 0.25), (0.92, 0.1)])
    return np.concatenate((fringe, from_left[::-1]))


def _paint_face(canvas: _Canvas, rng: np.random.Generator, head: _Head, skin: Colour, hair: Colour) -> None:
    def paint(colour: npt.ArrayLike, *outlines: Points, softness: float = 0.7, strength: float = 1.0) -> None:
        placed = head.place(*outlines)
        canvas.fill(as_float32(colour), *placed, softness=softness, strength=strength, adds=False)

    apart, level = rng.uniform(0.36, 0.44), rng.uniform(-0.12, 0.02)
    sides, tilt = (-apart, apart), rng.uniform(-0.12, 0.12)
    paint(skin * (0.85, 0.7, 0.7), *(ellipse(1.3 * side, 0.3, 0.25, 0.2) for side in sides), softness=4, strength=0.4)
    paint(hair * 0.8, *(ellipse(side, level - 0.22, 0.22, 0.045, tilt * np.sign(side)) for side in sides))
    paint((0.95, 0.95, 0.93), *(ellipse(side, level, 0.18, 0.085) for side in sides))
    paint(_EYES[rng.integers(len(_EYES))], *(ellipse(side, level, 0.085, 0.085) for side in sides))
    paint((0.02, 0.02, 0.02), *(ellipse(side, level, 0.04, 0.045) for side in sides))
    paint(skin * 0.72, ellipse(0, 0.3, 0.15, 0.06), ellipse(0.06, 0.1, 0.04, 0.2), softness=1.5, strength=0.6)
    lips = np.clip(skin * (0.95, 0.55, 0.55), 0, 1)
    paint(lips, ellipse(0, 0.57, rng.uniform(0.22, 0.32), rng.uniform(0.06, 0.1)), softness=0.9)


def _render_vessel(rng: np.random.Generator, width: int, height: int) -> Rendering:
    """A body of revolution, shaded towards its sides, sometimes with a handle."""
    canvas = _Canvas(np.full((height, width, 3), 0.5, np.float32))
    x, bottom = rng.uniform(0.38, 0.62), rng.uniform(0.82, 1.08)
    tall, wide = rng.uniform(0.5, 0.85), rng.uniform(0.14, 0.34)
    if rng.random() < 0.35:
        canvas.fill(random_colour(rng), ellipse(x + wide * 0.9, bottom - tall * 0.55, wide * 0.5, tall * 0.25))
    radius = wide * _profile(rng)
    levels = bottom - tall * np.linspace(0, 1, len(radius))
    body = np.concatenate((np.stack((x - radius, levels), 1), np.stack((x + radius, levels), 1)[::-1]))
    canvas.fill(_surface(rng, width, height), body)
    canvas.fill(canvas.colours * 0.35, ellipse(x, levels[-1], radius[-1] * 0.9, radius[-1] * 0.22), strength=0.9)
    across = np.abs(np.linspace(0, 1, width) - x) / wide
    canvas.colours = canvas.colours * as_float32(1.04 - 0.3 * np.clip(across, 0, 1) ** 3)[:, None]
    return canvas.finish(rng)


def _profile(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Radius from a vessel's foot to its mouth, in 0..1."""
    knots = rng.uniform(0.45, 1.0, int(rng.integers(3, 6)))
    radius = np.interp(np.linspace(0, 1, 40), np.linspace(0, 1, len(knots)), knots)
    return np.convolve(np.pad(radius, 4, mode="edge"), np.full(9, 1 / 9), mode="valid")


def _render_ball(rng: np.random.Generator, width: int, height: int) -> Rendering:
    canvas = _Canvas(np.full((height, width, 3), 0.5, np.float32))
    radius = rng.uniform(0.24, 0.42) * min(width, height)
    x, y = rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.75)
    canvas.fill(_surface(rng, width, height), ellipse(x, y, radius / width, radius / height))
    return canvas.finish(rng)


def _render_box(rng: np.random.Generator, width: int, height: int) -> Rendering:
    canvas = _Canvas(np.full((height, width, 3), 0.5, np.float32))
    x, y = rng.uniform(0.4, 0.6), rng.uniform(0.35, 0.55)
    left, right = rng.uniform(0.15, 0.32, 2)
    tall, slant = rng.uniform(0.25, 0.5), rng.uniform(0.04, 0.14)
    near = np.array((x, y))
    down, to_left, to_right = np.array((0, tall)), np.array((-left, -slant)), np.array((right, -slant))
    colours = _surface(rng, width, height)
    for shade, first, second in ((0.85, to_left, down), (1.0, to_right, down), (1.12, to_left, to_right)):
        face = np.stack((near, near + first, near + first + second, near + second))
        canvas.fill(np.clip(colours * shade, 0, 1), face)
    return canvas.finish(rng)


def _surface(rng: np.random.Generator, width: int, height: int) -> Colours:
    if rng.random() < 0.35:
        return procedural_texture(rng, width, height)
    plain = np.broadcast_to(random_colour(rng), (height, width, 3)).copy()
    if rng.random() < 0.5:
        top, deep = rng.uniform(0.2, 0.7) * height, rng.uniform(0.06, 0.3) * height
        plain[int(top) : int(top + deep)] = random_colour(rng)
    return plain
