"""The subject on grey and its crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from models.ic_light.foreground import composite_on_grey, resize_and_center_crop


def test_alpha_blends_towards_grey_and_truncates(noise_picture: np.ndarray):
    opaque, hidden = torch.ones(120, 90, 1), torch.zeros(120, 90, 1)
    assert (composite_on_grey(noise_picture, opaque) == noise_picture).all()
    assert (composite_on_grey(noise_picture, hidden) == 127).all()
    black, white = (np.full((1, 1, 3), level, dtype=np.uint8) for level in (0, 255))
    assert composite_on_grey(black, torch.full((1, 1, 1), 0.5)).tolist() == [[[63, 63, 63]]]
    assert composite_on_grey(white, torch.full((1, 1, 1), 0.999)).tolist() == [[[254, 254, 254]]]


def test_sigma_lifts_the_subject_where_it_shows():
    picture = np.full((1, 2, 3), 100, dtype=np.uint8)
    alpha = torch.tensor([1.0, 0.0]).reshape(1, 2, 1)
    assert composite_on_grey(picture, alpha, sigma=16.0)[0, :, 0].tolist() == [116, 127]


@pytest.mark.parametrize(("width", "height"), [(256, 320), (320, 256), (256, 1024)])
def test_a_crop_has_the_size_asked_for(noise_picture: np.ndarray, width: int, height: int):
    crop = resize_and_center_crop(noise_picture, width, height)
    assert crop.shape == (height, width, 3)
    assert crop.dtype == np.uint8


def test_a_crop_of_the_same_size_changes_nothing(noise_picture: np.ndarray):
    assert (resize_and_center_crop(noise_picture, 90, 120) == noise_picture).all()


def test_a_crop_keeps_the_centre():
    stripes = np.zeros((64, 192, 3), dtype=np.uint8)
    stripes[:, 64:128] = 255
    assert (resize_and_center_crop(stripes, 64, 64) == 255).all()


def test_an_edge_between_two_pixels_goes_to_the_even_one():
    # 853 px wide after scaling: the crop's left edge is at 170.5, which counts as 170.
    picture = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    scaled = np.asarray(Image.fromarray(picture).resize((853, 640), Image.Resampling.LANCZOS))
    assert (resize_and_center_crop(picture, 512, 640) == scaled[:, 170:682]).all()


@pytest.mark.parametrize("shape", [(16, 200_000, 3), (200_000, 16, 3)])
def test_extreme_shapes_are_cut_before_they_are_enlarged(shape: tuple[int, ...]):
    # Scaled whole this would have 13 million x 1024 px, far over what Pillow can allocate.
    crop = resize_and_center_crop(np.full(shape, 77, dtype=np.uint8), 1024, 1024)
    assert crop.shape == (1024, 1024, 3)
    assert (crop == 77).all()
