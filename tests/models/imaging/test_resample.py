"""Against Pillow: every level of every picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from models.imaging.resample import Axis, Crop, lanczos, resample, resample_strips


def by_pillow(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Columns before rows, whatever Pillow would begin with."""
    for size in ((width, len(picture)), (width, height)):
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    return picture


def pictures(count: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Noise, or edges of full contrast, of any size, and another size in px."""
    random = np.random.default_rng(7)
    for number in range(count):
        height, width, *target = (int(side) for side in 2 ** random.uniform(2, 9, 4))
        levels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        yield (levels if number % 3 else (levels > 127).astype(np.uint8) * 255), *target


def test_every_level_is_pillows_whatever_the_sizes():
    for picture, width, height in pictures(120):
        ours = resample(torch.from_numpy(picture), width, height).numpy()
        assert np.array_equal(ours, by_pillow(picture, width, height)), (picture.shape, width, height)


@pytest.mark.parametrize(
    ("own", "size"),
    [((512, 640), (768, 960)), ((3000, 2000), (512, 640)), ((853, 480), (512, 512)), ((16, 256), (1024, 1024))],
    ids=str,
)
def test_sizes_of_real_requests_are_exact(own: tuple[int, int], size: tuple[int, int]):
    picture = np.random.default_rng(0).integers(0, 256, (own[1], own[0], 3), dtype=np.uint8)
    assert np.array_equal(resample(torch.from_numpy(picture), *size).numpy(), by_pillow(picture, *size))


def test_pictures_of_common_shapes_are_what_pillow_gives_in_one_step():
    picture = np.random.default_rng(0).integers(0, 256, (640, 512, 3), dtype=np.uint8)
    whole = np.asarray(Image.fromarray(picture).resize((768, 960), Image.Resampling.LANCZOS))
    assert np.array_equal(resample(torch.from_numpy(picture), 768, 960).numpy(), whole)


def test_an_unchanged_size_changes_nothing():
    picture = torch.randint(0, 256, (33, 70, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(resample(picture, 70, 33), picture)


def test_a_crop_from_strips_of_what_it_reaches_is_the_scaled_pictures_part():
    picture = torch.randint(0, 256, (300, 400, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    crop = Crop(columns=Axis(400, 130, first=37, last=90), rows=Axis(300, 111, first=50, last=51))
    (left, right), (top, bottom) = crop.columns.reach, crop.rows.reach
    assert (right - left) < 200 and (bottom - top) < 30
    strips = torch.split(picture[top:bottom, left:right], 7)
    assert torch.equal(resample_strips(strips, [crop], left, top)[0], resample(picture, 130, 111)[50:51, 37:90])


def test_what_lies_outside_of_the_source_does_not_count():
    picture = torch.randint(0, 256, (50, 100, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    inside = Crop(columns=Axis(60, 90, 0, 90, offset=20), rows=Axis(30, 45, 0, 45, offset=10))
    assert torch.equal(resample_strips([picture], [inside])[0], resample(picture[10:40, 20:80], 90, 45))


def test_the_kernel_is_one_in_the_middle_and_ends_at_three():
    x = torch.tensor([0.0, 0.5, -0.5, 1.0, 2.0, 3.0, 7.5], dtype=torch.float64)
    expected = [1, 0.6079271, 0.6079271, 0, 0, 0, 0]
    assert torch.allclose(lanczos(x), torch.tensor(expected, dtype=torch.float64), atol=1e-7)
