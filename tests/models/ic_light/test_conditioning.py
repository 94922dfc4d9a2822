"""Images that condition the UNet: conversion to RGB, the subject on grey, its crops, the light gradient."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from models.ic_light.conditioning import (
    composite_on_grey,
    cut_out,
    light_gradient,
    resize_and_center_crop,
    to_rgb,
)
from models.imaging.decode import decode


def level(value: int) -> torch.Tensor:
    """A picture of one pixel."""
    return torch.full((1, 1, 3), value, dtype=torch.uint8)


def test_alpha_blends_towards_grey_and_truncates(noise: torch.Tensor):
    opaque, hidden = torch.ones(120, 90, 1), torch.zeros(120, 90, 1)
    assert torch.equal(composite_on_grey(noise, opaque), noise)
    assert (composite_on_grey(noise, hidden) == 127).all()
    assert composite_on_grey(level(0), torch.full((1, 1, 1), 0.5)).tolist() == [[[63, 63, 63]]]
    assert composite_on_grey(level(255), torch.full((1, 1, 1), 0.999)).tolist() == [[[254, 254, 254]]]


def test_sigma_lifts_the_subject_where_it_shows():
    picture = torch.full((1, 2, 3), 100, dtype=torch.uint8)
    alpha = torch.tensor([1.0, 0.0]).reshape(1, 2, 1)
    assert composite_on_grey(picture, alpha, sigma=16.0)[0, :, 0].tolist() == [116, 127]


@pytest.mark.parametrize("shape", [(120, 90), (700, 900), (600, 333), (24, 1500), (1500, 24)], ids=str)
def test_a_subject_is_cut_out_as_its_whole_composite_would_be(shape: tuple[int, int]):
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (*shape, 3), generator=generator, dtype=torch.uint8)
    alpha, before = torch.rand(*shape, 1, generator=generator), picture.clone()
    sizes = ((256, 320), (384, 448))
    whole = composite_on_grey(picture, alpha)
    for cut, size in zip(cut_out(picture, alpha, sizes), sizes, strict=True):
        assert torch.equal(cut, resize_and_center_crop(whole, *size))
    assert torch.equal(picture, before)


@pytest.mark.parametrize(("width", "height"), [(256, 320), (320, 256), (256, 1024)])
def test_a_crop_has_the_size_asked_for(noise: torch.Tensor, width: int, height: int):
    crop = resize_and_center_crop(noise, width, height)
    assert crop.shape == (height, width, 3)
    assert crop.dtype == torch.uint8


def test_a_crop_of_the_same_size_changes_nothing(noise: torch.Tensor):
    assert torch.equal(resize_and_center_crop(noise, 90, 120), noise)


def test_a_crop_keeps_the_centre():
    stripes = torch.zeros(64, 192, 3, dtype=torch.uint8)
    stripes[:, 64:128] = 255
    assert (resize_and_center_crop(stripes, 64, 64) == 255).all()


def test_an_edge_between_two_pixels_goes_to_the_even_one():
    # 853 px wide after scaling: the crop's left edge is at 170.5, which counts as 170.
    picture = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    scaled = np.asarray(Image.fromarray(picture).resize((853, 640), Image.Resampling.LANCZOS))
    assert (resize_and_center_crop(torch.from_numpy(picture), 512, 640).numpy() == scaled[:, 170:682]).all()


@pytest.mark.parametrize("shape", [(16, 200_000, 3), (200_000, 16, 3)])
def test_extreme_shapes_are_cut_before_they_are_enlarged(shape: tuple[int, ...]):
    # The ends are black: scaled whole this would have 13 million x 1024 px, and they would show.
    picture = torch.zeros(shape, dtype=torch.uint8)
    picture[tuple(slice(side // 2 - 128, side // 2 + 128) if side > 16 else slice(None) for side in shape)] = 77
    crop = resize_and_center_crop(picture, 1024, 1024)
    assert crop.shape == (1024, 1024, 3)
    assert (crop == 77).all()


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


@pytest.mark.parametrize(
    ("light_source", "bright", "dark"),
    [
        ("Left Light", np.s_[:, 0], np.s_[:, -1]),
        ("Right Light", np.s_[:, -1], np.s_[:, 0]),
        ("Top Light", np.s_[0], np.s_[-1]),
        ("Bottom Light", np.s_[-1], np.s_[0]),
    ],
)
def test_the_side_of_the_light_is_white_and_the_other_black(light_source, bright, dark):
    gradient = light_gradient(light_source, 256, 320)
    assert gradient.shape == (320, 256, 3)
    assert gradient.dtype == np.uint8
    assert (gradient[bright] == 255).all()
    assert (gradient[dark] == 0).all()


def test_levels_are_truncated():
    # 255 / 319 = 0.799 per pixel: truncation gives 0, 0, 1, 2, 3, rounding would give 0, 1, 2, 2, 3.
    assert light_gradient("Bottom Light", 256, 320)[:5, 0, 0].tolist() == [0, 0, 1, 2, 3]


def test_no_light_source_gives_no_gradient():
    assert light_gradient("None", 256, 320) is None
