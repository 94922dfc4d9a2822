"""Photographs of the sizes that models paint, from those that scikit-image brings along."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

Picture = NDArray[np.uint8]
"""RGB, [height, width, 3]."""


def photographs() -> dict[str, Picture]:
    """By name: a face, the same with grain, dark sky, skin-like texture, all 1024 x 1024, and a still life."""
    return {
        "face 1024x1024": photograph("astronaut", 1024, 1024),
        "grainy face 1024x1024": photograph("astronaut", 1024, 1024, noise=6),
        "dark sky 1024x1024": photograph("rocket", 1024, 1024),
        "retina 1024x1024": photograph("retina", 1024, 1024),
        "still life 960x768": photograph("coffee", 960, 768),
    }


def photograph(name: str, width: int, height: int, noise: float = 0) -> Picture:
    """Scale scikit-image's `name` to cover `width` x `height`; `noise` is its standard deviation in levels of 255."""
    picture = Image.fromarray(getattr(data, name)())
    scale = max(width / picture.width, height / picture.height)
    large = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    pixels = np.asarray(large.crop((0, 0, width, height)), np.float32)
    grain = np.random.default_rng(0).normal(0, noise, pixels.shape) if noise else 0
    grainy: Picture = np.clip(pixels + grain, 0, 255).round().astype(np.uint8)
    return grainy


def by_pillow(picture: Picture, kind: str, **options: Any) -> bytes:
    """Encode as Pillow does with its defaults, but for `options`."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind, **options)
    return out.getvalue()
