"""The caller's picture as RGB, whatever mode its file has (IC-Light specification section 1)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.imaging.decode import to_pixels, to_rgb8

GREY: Final = 127
"""The level that the networks' normalisation maps to 0: the backdrop of everything that is not subject."""

Rgb = NDArray[np.uint8]
"""One picture: RGB, 8 bit, [height, width, 3]."""


def to_rgb(picture: Image.Image) -> Rgb:
    """Convert a decoded picture of any mode to 8-bit RGB.

    Real transparency is composited on grey first: what the file hides must not come back when alpha is dropped.
    """
    return to_pixels(picture, _flatten)


def _flatten(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return to_rgb8(picture)
    layer = picture.convert("RGBA")
    return to_rgb8(Image.alpha_composite(Image.new("RGBA", layer.size, (GREY, GREY, GREY, 255)), layer))
