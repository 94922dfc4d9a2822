"""Colours to fill subjects with: patches of training photos, toned and shifted, and procedural ones."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from training.data.photos import TRAINED_ON, Picture, load_photo
from training.data.shapes import Colour, Colours, Field, as_float32, colour_noise, luma, smooth_noise

_GREY_PHOTOS: Final = frozenset(
    ("brick", "camera", "cell", "coins", "grass", "gravel", "horse", "microaneurysms", "moon", "page", "text")
)
_PATCHES: Final = tuple(name for name in TRAINED_ON if name != "horse")
"""A silhouette has no texture."""


def is_grey(name: str) -> bool:
    """Whether a training photo has no colours of its own."""
    return name in _GREY_PHOTOS


def photo_patch(rng: np.random.Generator, width: int, height: int) -> Colours:
    """A random part of a random training photo, enlarged or reduced by up to 2.5, recoloured half of the time."""
    name = _PATCHES[rng.integers(len(_PATCHES))]
    photo = Image.fromarray(load_photo(name))
    scale = max(np.exp(rng.uniform(np.log(0.5), np.log(2.5))), width / photo.width, height / photo.height)
    wide, high = min(photo.width, width / scale), min(photo.height, height / scale)
    left, top = rng.random() * (photo.width - wide), rng.random() * (photo.height - high)
    patch = photo.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, left + wide, top + high))
    return recolour(rng, np.asarray(patch), is_grey(name))


def recolour(rng: np.random.Generator, picture: Picture, grey: bool) -> Colours:
    """Give a grey photo two random tones, and half of the others other colours; then random gain and contrast."""
    colours = as_float32(picture) / np.float32(255)
    if grey:
        colours = _tone(rng, colours) if rng.random() < 0.8 else colours
    elif rng.random() < 0.5:
        colours = _shift_colours(rng, colours)
    gain, contrast = rng.uniform(0.85, 1.45), rng.uniform(0.85, 1.2)
    return as_float32(np.clip((colours - 0.45) * contrast + 0.45 * gain, 0, 1))


def procedural_texture(rng: np.random.Generator, width: int, height: int) -> Colours:
    """Smooth colours, stripes, checks, patches of strong colour, or nearly one colour."""
    kind = rng.integers(5)
    if kind == 0:
        return colour_noise(rng, width, height, int(rng.integers(1, 5)))
    first, second = random_colour(rng), random_colour(rng)
    pattern = (_stripes, _checks, _patches, _plain)[kind - 1](rng, width, height)[..., None]
    return as_float32(first + (second - first) * pattern)


def random_colour(rng: np.random.Generator) -> Colour:
    """Any colour [3]: strong, skin-like, dark, bright or grey."""
    kind = rng.random()
    if kind < 0.38:
        return as_float32(rng.permutation([rng.uniform(0.6, 1.0), rng.uniform(0.05, 0.9), rng.uniform(0.02, 0.3)]))
    if kind < 0.58:
        return skin_colour(rng)
    grey = rng.uniform(0.75, 0.97) if kind < 0.78 else rng.uniform(0.04, 0.8)
    return as_float32(np.clip(grey + rng.normal(0, 0.05, 3), 0.02, 1))


def skin_colour(rng: np.random.Generator) -> Colour:
    """A colour [3] of human skin, from dark to pale."""
    pale, dark = np.array([0.96, 0.80, 0.70]), np.array([0.36, 0.22, 0.15])
    share = rng.random() ** 1.5
    return as_float32(np.clip(pale + (dark - pale) * share + rng.normal(0, 0.02, 3), 0, 1))


def _tone(rng: np.random.Generator, colours: Colours) -> Colours:
    low, high = as_float32(rng.uniform(0, 0.3, 3)), as_float32(rng.uniform(0.55, 1.0, 3))
    return low + (high - low) * luma(colours)[..., None]


def _shift_colours(rng: np.random.Generator, colours: Colours) -> Colours:
    if rng.random() < 0.5:
        return np.ascontiguousarray(colours[..., rng.permutation(3)])
    gain = as_float32(np.clip(rng.normal(1, 0.2, 3), 0.5, 1.4))
    return as_float32(np.clip(colours * gain, 0, 1))


def _stripes(rng: np.random.Generator, width: int, height: int) -> Field:
    return _edge(np.sin(_phase(rng, width, height, rng.uniform(0, np.pi))))


def _checks(rng: np.random.Generator, width: int, height: int) -> Field:
    angle = rng.uniform(0, np.pi)
    first, second = (_phase(rng, width, height, turned) for turned in (angle, angle + np.pi / 2))
    return _edge(np.sin(first) * np.sin(second))


def _patches(rng: np.random.Generator, width: int, height: int) -> Field:
    return _edge(as_float32(2 * smooth_noise(rng, width, height, int(rng.integers(2, 8)))))


def _plain(rng: np.random.Generator, width: int, height: int) -> Field:
    return as_float32(0.15 + 0.15 * smooth_noise(rng, width, height, 3))


def _edge(wave: Field) -> Field:
    return as_float32(0.5 + 0.5 * np.tanh(4 * wave))


def _phase(rng: np.random.Generator, width: int, height: int, angle: float) -> Field:
    period = rng.uniform(0.08, 0.3) * min(width, height)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    along = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))
    return along * np.float32(2 * np.pi / period)
