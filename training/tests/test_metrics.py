"""Metrics on pictures with known results."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.evaluation.metrics import (
    Axis,
    box_luma,
    chroma_error,
    flat_noise,
    light_quotient,
    luma,
    mean_chroma,
    psnr,
)


def halves(first: int, second: int, axis: Axis = "left/right") -> np.ndarray:
    """A grey picture of two levels, [80, 60, 3]."""
    picture = np.full((80, 60, 3), first, np.uint8)
    if axis == "left/right":
        picture[:, 30:] = second
    else:
        picture[40:] = second
    return picture


def flat(*levels: int) -> np.ndarray:
    return np.full((80, 60, 3), levels, np.uint8)


def noisy(spread: float, size: tuple[int, int] = (320, 256), level: float = 128) -> np.ndarray:
    grey = np.random.default_rng(3).normal(level, spread, (*size, 1))
    return np.clip(grey.round(), 0, 255).astype(np.uint8).repeat(3, 2)


ALL_OF_IT = [(0, 0, 256, 320)]


def test_luma_weighs_colours_as_the_eye_does():
    assert luma(flat(255, 255, 255)).mean() == pytest.approx(255)
    assert luma(flat(0, 100, 0)).mean() == pytest.approx(58.7)


@pytest.mark.parametrize("axis", ["left/right", "top/bottom"])
def test_the_quotient_of_opposite_lights(axis: Axis):
    near, far = halves(200, 100, axis), halves(50, 150, axis)
    assert light_quotient(near, far, axis) == pytest.approx(6)
    assert light_quotient(far, near, axis) == pytest.approx(1 / 6)
    assert light_quotient(near, near, axis) == 1
    other: Axis = "top/bottom" if axis == "left/right" else "left/right"
    assert light_quotient(near, far, other) == pytest.approx(1)


def test_only_what_the_mask_holds_counts():
    near, far = halves(200, 100), halves(100, 200)
    near[:40], far[:40] = 9, 9
    mask = np.zeros((80, 60), bool)
    mask[50:70, 10:50] = True
    assert light_quotient(near, far, "left/right", mask) == pytest.approx(4)
    assert light_quotient(near, far, "left/right") == pytest.approx((209 / 109) / (109 / 209))


def test_a_mask_that_is_too_small_or_in_one_half_gives_no_quotient():
    near, far = halves(200, 100), halves(100, 200)
    small, left = np.zeros((80, 60), bool), np.zeros((80, 60), bool)
    small[30:40, 20:40] = True
    left[:, :30] = True
    assert light_quotient(near, far, "left/right", small) is None
    assert light_quotient(near, far, "left/right", left) is None
    assert light_quotient(near, far, "top/bottom", left) == pytest.approx(1)


def test_a_black_half_gives_no_infinite_quotient():
    assert light_quotient(halves(200, 0), halves(0, 200), "left/right") == pytest.approx((200 / 0.5) ** 2)


def test_psnr():
    assert psnr(flat(100, 100, 100), flat(110, 110, 110)) == pytest.approx(20 * math.log10(25.5))
    assert psnr(flat(250, 250, 250), flat(5, 5, 5)) == pytest.approx(20 * math.log10(255 / 245))
    assert psnr(flat(1, 2, 3), flat(1, 2, 3)) == math.inf


def test_chroma_error_is_blind_to_brightness():
    assert chroma_error(flat(100, 100, 100), flat(140, 140, 140)) == pytest.approx(0, abs=1e-9)
    assert chroma_error(flat(100, 100, 100), flat(100, 100, 140)) == pytest.approx((20 + 0.081312 * 40) / 2)


@pytest.mark.parametrize(
    ("colour", "a", "b"),
    [((230, 60, 60), 1, 1), ((60, 160, 60), -1, 1), ((60, 60, 230), 1, -1), ((200, 180, 120), 0, 1)],
)
def test_mean_chroma_points_where_the_colour_is(colour: tuple[int, int, int], a: int, b: int):
    found = mean_chroma(flat(*colour))
    assert (np.sign(found[0]) == a or a == 0) and np.sign(found[1]) == b
    assert mean_chroma(flat(90, 90, 90)) == pytest.approx((0, 0), abs=0.1)


def test_noise_is_what_is_finer_than_the_blur():
    assert flat_noise(noisy(6), ALL_OF_IT) == pytest.approx(6, rel=0.05)
    assert flat_noise(flat(77, 77, 77), [(0, 0, 60, 80)]) == pytest.approx(0, abs=1e-6)


def test_a_ramp_of_light_is_no_noise():
    ramp = np.linspace(0, 255, 256).astype(np.uint8)[None, :, None].repeat(320, 0).repeat(3, 2)
    assert flat_noise(ramp, [(20, 20, 236, 300)]) < 0.5


def test_noise_of_one_grain_is_the_same_at_any_scale_of_the_picture():
    small = noisy(6)
    large = small.repeat(3, 0).repeat(3, 1)
    assert flat_noise(large, [(0, 0, 768, 960)]) == pytest.approx(flat_noise(small, ALL_OF_IT), rel=0.05)


def test_only_the_boxes_count():
    picture = noisy(6)
    picture[:100, :100] = 128
    assert flat_noise(picture, [(16, 16, 80, 80)]) < 0.1
    assert flat_noise(picture, [(16, 16, 80, 80), (150, 16, 214, 80)]) == pytest.approx(6 / math.sqrt(2), rel=0.1)


def test_brightness_of_boxes():
    picture = halves(200, 100)
    assert box_luma(picture, [(0, 0, 10, 10), (50, 0, 60, 10)]) == pytest.approx(150)
