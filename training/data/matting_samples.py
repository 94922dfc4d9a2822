"""Pictures whose alpha is known: photos with their own backgrounds, and subjects before others."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.data.cutouts import cutouts
from training.data.photos import load_photo
from training.data.shapes import (
    Colours,
    Field,
    blur,
    colour_noise,
    random_outlines,
    rasterise,
    smooth_noise,
)
from training.data.subjects import sample_subject
from training.data.textures import is_grey, photo_patch, procedural_texture, random_colour, recolour

Matted = tuple[Colours, Field]
"""A picture [height, width, 3] in 0..1 and its alpha."""

_IN_PLACE: Final = {
    "astronaut": 0.3,
    "motorcycle_left": 0.24,
    "camera": 0.2,
    "coins": 0.1,
    "cell": 0.05,
    "horse": 0.05,
    "color": 0.03,
    "logo": 0.03,
}
"""Odds of the photos that are used with their own background."""
_PHOTOS: Final = 0.4
"""Share of photos with their own background; the others are subjects before new backgrounds."""
_CLOSE: Final = 0.15
"""Share of close-ups, which show little of the background."""
_CLOSER, _CLOSEST = 0.7, 0.98
"""Shares of a picture that such a subject covers."""
_SMALLEST, _LARGEST = 0.1, 0.8
"""Shares of a picture that any other subject covers."""
_WHOLE: Final = 0.5
"""Share of a photo's subject that a crop shows at least."""
_TRIES: Final = 12
_SOFTEST: Final = 0.06


def sample_batch(seed: int, step: int, count: int, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Sample the batch of a step: pictures [count, 3, height, width] in -1..1, alphas [count, 1, height, width]."""
    rng = np.random.default_rng((seed, step))
    drawn = [sample_matted(rng, width, height) for _ in range(count)]
    pictures = torch.from_numpy(np.stack([picture for picture, _ in drawn])).movedim(-1, 1)
    return pictures * 2 - 1, torch.from_numpy(np.stack([alpha for _, alpha in drawn]))[:, None]


def sample_matted(rng: np.random.Generator, width: int, height: int) -> Matted:
    """A random picture of that size in px, and its alpha."""
    kind = rng.random()
    draw = _sample_photo if kind < _PHOTOS else _sample_close_up if kind < _PHOTOS + _CLOSE else _sample_composite
    colours, alpha = draw(rng, width, height)
    if rng.random() < 0.5:
        colours, alpha = colours[:, ::-1], alpha[:, ::-1]
    return _simulate_camera(rng, np.ascontiguousarray(colours)), np.ascontiguousarray(alpha)


def _sample_photo(rng: np.random.Generator, width: int, height: int) -> Matted:
    """A crop of a photo with its own background; in a quarter of them the subject is recoloured separately."""
    name = tuple(_IN_PLACE)[rng.choice(len(_IN_PLACE), p=list(_IN_PLACE.values()))]
    mask = _mask_of_photo(name)
    box = _box_around(rng, name, width / height)
    size = (width, height)
    levels = np.asarray(mask.resize(size, Image.Resampling.BILINEAR, box, reducing_gap=2.0))
    alpha = levels.astype(np.float32) / np.float32(255)
    photo = Image.fromarray(load_photo(name))
    picture = np.asarray(photo.resize(size, Image.Resampling.BILINEAR, box, reducing_gap=2.0))
    colours = recolour(rng, picture, is_grey(name))
    if rng.random() < 0.25:
        colours = _composite(recolour(rng, picture, is_grey(name)), alpha, colours)
    return colours, alpha


@cache
def _mask_of_photo(name: str) -> Image.Image:
    """Where any subject is in a photo, [height, width] of 8 bits."""
    height, width = load_photo(name).shape[:2]
    mask = Image.new("L", (width, height))
    for cutout in cutouts()[name]:
        alpha = cutout.rgba.getchannel("A")
        mask.paste(alpha, cutout.corner, alpha)
    return mask


def _box_around(rng: np.random.Generator, name: str, aspect: float) -> tuple[float, float, float, float]:
    """A random part of a photo that shows enough of its subject; `aspect` is its width by its height, roughly."""
    mask = _mask_of_photo(name)
    levels = np.asarray(mask.reduce(8), np.float32) / 255
    for _ in range(_TRIES):
        shape = aspect * np.exp(rng.normal(0, 0.12))
        high = min(mask.height, mask.width / shape) * rng.uniform(0.5, 1.0)
        wide = min(mask.width, shape * high)
        left, top = rng.random() * (mask.width - wide), rng.random() * (mask.height - high)
        inside = levels[int(top / 8) : int((top + high) / 8) + 1, int(left / 8) : int((left + wide) / 8) + 1]
        many = name == "coins" or inside.sum() > _WHOLE * levels.sum()
        if many and _SMALLEST < inside.mean() < _LARGEST:
            return left, top, left + wide, top + high
    return 0, 0, mask.width, mask.height


def _sample_composite(rng: np.random.Generator, width: int, height: int) -> Matted:
    """A subject before another background or its own out of focus, often with a shadow."""
    while True:
        subject = sample_subject(rng, width, height)
        if subject.alpha.mean() < _LARGEST and _soft_share(subject.alpha) < _SOFTEST:
            break
    colours = subject.picture.astype(np.float32) / np.float32(255)
    if rng.random() < 0.2:
        # A background of the subject's own colours, which differs in sharpness only.
        background = _blurred(colours, rng.uniform(3, 8)) * np.float32(rng.uniform(0.6, 1))
    else:
        background = _sample_background(rng, width, height)
    if rng.random() < 0.4:
        shift = (round(rng.uniform(0, 0.06) * height), round(rng.normal(0, 0.06) * width))
        shadow = blur(np.roll(subject.alpha, shift, (0, 1)), rng.uniform(0.02, 0.08) * width)
        background = background * (1 - rng.uniform(0.2, 0.7) * shadow)[..., None]
    return _composite(colours, subject.alpha, background), subject.alpha


def _sample_close_up(rng: np.random.Generator, width: int, height: int) -> Matted:
    """The middle of a subject that is larger than the picture, and of what is behind it."""
    while True:
        scale = rng.uniform(1.4, 2.4)
        colours, alpha = _sample_composite(rng, round(scale * width), round(scale * height))
        rows, columns = np.nonzero(alpha > 0.5)
        top = _first(rng, rows.mean(), height, len(alpha))
        left = _first(rng, columns.mean(), width, alpha.shape[1])
        part = slice(top, top + height), slice(left, left + width)
        if _CLOSER < alpha[part].mean() < _CLOSEST:
            return colours[part], alpha[part]


def _first(rng: np.random.Generator, middle: float, length: int, whole: int) -> int:
    """Start of a random part of `length` px around `middle`."""
    return int(np.clip(round(middle + length * (rng.normal(0, 0.15) - 0.5)), 0, whole - length))


def _soft_share(alpha: Field) -> float:
    """How much of a picture is neither subject nor background; edges are little of it, poor alphas more."""
    return float(((alpha > 0.1) & (alpha < 0.9)).mean())


def _sample_background(rng: np.random.Generator, width: int, height: int) -> Colours:
    background = _sample_surface(rng, width, height)
    if rng.random() < 0.3:
        # A floor before a wall.
        line = np.arange(height, dtype=np.float32)[:, None] - rng.uniform(0.5, 0.95) * height
        ramp = np.clip(line / rng.uniform(1, 6), 0, 1)
        below = np.repeat(ramp, width, axis=1).astype(np.float32)
        background = _composite(_sample_surface(rng, width, height), below, background)
    if rng.random() < 0.3:
        background = _composite(_sample_surface(rng, width, height), _sample_distractor(rng, width, height), background)
    return _blurred(background, rng.uniform(1, 6)) if rng.random() < 0.45 else background


def _sample_surface(rng: np.random.Generator, width: int, height: int) -> Colours:
    kind = rng.random()
    if kind < 0.4:
        return photo_patch(rng, width, height)
    if kind < 0.5:
        return procedural_texture(rng, width, height)
    if kind < 0.65:
        return colour_noise(rng, width, height, int(rng.integers(1, 4)))
    wall = random_colour(rng) + rng.uniform(0, 0.25) * smooth_noise(rng, width, height, 1)[..., None]
    return np.clip(wall, 0, 1)


def _sample_distractor(rng: np.random.Generator, width: int, height: int) -> Field:
    """Mask of a small object far from the centre, which is not the subject."""
    side = -1 if rng.random() < 0.5 else 1
    shift = np.array((0.5 * side * rng.uniform(0.75, 1.1), -rng.uniform(0.1, 0.6)))
    outlines = [(points - 0.5) * 0.5 + 0.5 + shift for points in random_outlines(rng)]
    return rasterise(outlines, width, height)


def _simulate_camera(rng: np.random.Generator, colours: Colours) -> Colours:
    """Simulate a camera: uneven light, exposure, blur, noise, sometimes greyscale."""
    height, width = colours.shape[:2]
    if rng.random() < 0.5:
        light = rng.uniform(0.1, 0.4) * smooth_noise(rng, width, height, 1)
        colours = colours * (1 + light)[..., None]
    if rng.random() < 0.12:
        colours = np.repeat(colours.mean(-1, keepdims=True), 3, -1)
    if rng.random() < 0.4:
        colours = _blurred(colours, rng.uniform(0.4, 1.4))
    colours = colours * np.float32(np.exp(rng.normal(0, 0.15)))
    noise = rng.standard_normal(colours.shape, np.float32) * np.float32(rng.uniform(0, 0.03))
    return np.clip(colours + noise, 0, 1).astype(np.float32)


def _composite(front: Colours, alpha: Field, behind: Colours) -> Colours:
    return behind + (front - behind) * alpha[..., None]


def _blurred(colours: Colours, sigma: float) -> Colours:
    return np.stack([blur(np.ascontiguousarray(colours[..., channel]), sigma) for channel in range(3)], axis=-1)
