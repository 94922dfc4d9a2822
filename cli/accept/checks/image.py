"""Whether an image is neither uniform, nor a bare ramp, nor noise.

Photos of scenes and people have most of their contrast in large things. The share of the luma's variance that is lost
when blocks of 1/32 of the shorter side are averaged is 0.08 to 0.30 for photos of faces, animals, food and rooms at 512
to 1024 px; 0.7 and more for noise of single pixels up to grains of 16 px, which is what latents that were not denoised
decode to; 0.001 for a ramp. (Close-ups of gravel or grass, at 0.85, would fail: these requests request for none.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from cli.accept.luma import block_means, luma
from cli.accept.result import CheckResult, at_least, at_most
from models.imaging.types import Rgb

TITLE: Final = "Image quality"
MIN_DEVIATION: Final = 8.0
"""Standard deviation of the luma, in levels of 255: the dullest photos tried have 13."""
MIN_DETAIL: Final = 0.01
MAX_DETAIL: Final = 0.55
_BLOCKS: Final = 32


def image_quality(pictures: Sequence[Rgb]) -> CheckResult:
    """Check all images; the value is that of the worst one."""
    worst = max(pictures, key=_badness)
    deviation, detail = contrast(worst), fine_detail(worst)
    if deviation < MIN_DEVIATION:
        return at_least(TITLE, deviation, MIN_DEVIATION, "A picture is almost uniform: contrast in levels of 255.")
    if detail < MIN_DETAIL:
        return at_least(TITLE, detail, MIN_DETAIL, "A picture shows nothing but a ramp: share of fine detail.")
    return at_most(TITLE, detail, MAX_DETAIL, "Share of fine detail; noise has 0.7 and more.")


def contrast(picture: Rgb) -> float:
    """Standard deviation of the luma in levels of 255."""
    return float(luma(picture).std())


def fine_detail(picture: Rgb) -> float:
    """Share of the luma's variance within blocks of 1/32 of the shorter side: 0..1; 0 for a uniform picture."""
    levels = luma(picture)
    variance = levels.var()
    blocks = block_means(levels, max(min(levels.shape) // _BLOCKS, 2))
    return float(1 - blocks.var() / variance) if variance > np.finfo(float).eps else 0.0


def _badness(picture: Rgb) -> float:
    detail = fine_detail(picture)
    bare = contrast(picture) < MIN_DEVIATION or detail < MIN_DETAIL
    return 1.0 + bare if bare else detail
