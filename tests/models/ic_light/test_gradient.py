"""The light's direction as a start picture."""

from __future__ import annotations

import numpy as np
import pytest

from models.ic_light.gradient import BACKGROUND_LEVELS, light_gradient


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


def test_a_background_spans_less():
    line = light_gradient("Right Light", 256, 64, BACKGROUND_LEVELS)[0, :, 0]
    assert (line[0], line[-1]) == (32, 224)


def test_no_light_source_gives_no_gradient():
    assert light_gradient("None", 256, 320) is None
