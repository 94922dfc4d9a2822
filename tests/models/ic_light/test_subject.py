"""Pictures of every mode become 8-bit RGB, and what is transparent becomes grey."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from models.ic_light.subject import to_rgb
from models.imaging.decode import decode


def test_hidden_pixels_become_grey_and_opaque_ones_stay():
    pixels = np.full((20, 20, 4), (200, 40, 90, 255), dtype=np.uint8)
    pixels[:10, :, 3] = 0
    rgb = to_rgb(Image.fromarray(pixels))
    assert (rgb[:10] == 127).all()
    assert (rgb[10:] == (200, 40, 90)).all()


def test_half_transparent_pixels_lie_between_colour_and_grey():
    rgb = to_rgb(Image.new("RGBA", (16, 16), (227, 27, 127, 128)))
    assert np.abs(rgb[0, 0].astype(int) - (177, 77, 127)).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "P"])
def test_transparency_counts_in_grey_and_palette_files(mode: str):
    picture = Image.new("RGBA", (32, 32), (255, 255, 255, 0)).convert(mode)
    file = io.BytesIO()
    picture.save(file, "PNG", **({"transparency": picture.getpixel((0, 0))} if mode == "P" else {}))
    assert (to_rgb(decode(file.getvalue())) == 127).all()


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("L", 90, (90, 90, 90)), ("CMYK", (0, 255, 255, 0), (255, 0, 0)), ("I;16", 257 * 80, (80, 80, 80))],
)
def test_opaque_modes_become_eight_bit_rgb(mode: str, colour: object, expected: tuple[int, ...]):
    rgb = to_rgb(Image.new(mode, (16, 24), colour))
    assert rgb.shape == (24, 16, 3)
    assert rgb.dtype == np.uint8
    assert tuple(rgb[0, 0]) == expected
