"""The pictures that the demo weights are trained on: those that scikit-image ships with."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = npt.NDArray[np.uint8]
"""8 bits, [height, width, 3]."""

HELD_OUT: Final = ("chelsea", "coffee", "retina", "rocket", "clock_motion")
"""Held out from training: the figures are measured on them."""
TRAINED_ON: Final = (
    "astronaut",
    "brick",
    "camera",
    "cell",
    "coins",
    "color",
    "grass",
    "gravel",
    "horse",
    "hubble_deep_field",
    "ihc",
    "logo",
    "microaneurysms",
    "moon",
    "motorcycle_left",
    "page",
    "text",
)


@cache
def load_photo(name: str) -> Picture:
    """The picture of that name, transparent parts over white; read-only."""
    path = next(path for path in _folder().glob(f"{name}.*") if path.suffix in (".png", ".jpg"))
    with Image.open(path) as file:
        rgba = file.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    picture = np.array(Image.alpha_composite(white, rgba).convert("RGB"))
    picture.setflags(write=False)
    return picture


def _folder() -> Path:
    package = find_spec("skimage")
    assert package is not None, "scikit-image is a dependency of training"
    assert package.origin is not None
    return Path(package.origin).parent / "data"
