"""The subject on grey and its crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from models.ic_light.conditioning import composite_on_grey, cut_out, resize_and_center_crop


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
