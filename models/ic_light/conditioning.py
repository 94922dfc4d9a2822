"""Images that condition the UNet: input to RGB, subject on grey, crops, light gradient.

IC-Light specification sections 1, 2.5, 3, 4 and 17.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.ic_light.params import LightSource
from models.imaging.decode import to_pixels, to_rgb8
from models.imaging.resample import Axis, Crop, resample_strips, strips_of
from models.imaging.types import Rgb

GREY: Final = 127
"""The level that normalisation maps to 0; background of the composited subject."""
MAX_STRETCH: Final = 16
"""A scaled image may be this many times as wide or as high as the target; what exceeds it is cropped unscaled."""
START_LEVELS: Final = (255, 0)
"""Levels of the light gradient at the light's side and at the opposite side."""


def to_rgb(picture: Image.Image) -> Rgb:
    """Convert a decoded image of any mode to 8-bit RGB; transparency is composited on grey."""
    return to_pixels(picture, _flatten)


def _flatten(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return to_rgb8(picture)
    layer = picture.convert("RGBA")
    return to_rgb8(Image.alpha_composite(Image.new("RGBA", layer.size, (GREY, GREY, GREY, 255)), layer))


def composite_on_grey(picture: Tensor, alpha: Tensor, sigma: float = 0.0) -> Tensor:
    """Composite a uint8 image [height, width, 3] on grey 127 with `alpha` [height, width, 1] in 0..1; truncates.

    `sigma` is added to the subject's levels: 0 for relighting.
    """
    levels = picture.to(torch.float32).sub_(GREY).add_(sigma)
    return levels.mul_(alpha).add_(GREY).clip_(0, 255).to(torch.uint8)


def cut_out(picture: Tensor, alpha: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The subject on grey, scaled and centre-cropped to each (width, height): uint8 [height, width, 3] each.

    Computed in strips, and only where a crop needs it: the whole composite is never in memory.
    """
    height, width = picture.shape[:2]
    crops = [center_crop(width, height, *size) for size in sizes]
    left, right = _union([crop.columns for crop in crops])
    top, bottom = _union([crop.rows for crop in crops])
    composite = _composite_strips(picture[top:bottom, left:right], alpha[top:bottom, left:right])
    return resample_strips(composite, crops, left, top)


def resize_and_center_crop(picture: Tensor, width: int, height: int) -> Tensor:
    """Scale a uint8 image [height, width, 3] until it covers the target, then crop the centre; no letterboxing."""
    crop = center_crop(picture.shape[1], picture.shape[0], width, height)
    (left, right), (top, bottom) = crop.columns.reach, crop.rows.reach
    return resample_strips(strips_of(picture[top:bottom, left:right]), [crop], left, top)[0]


def center_crop(source_width: int, source_height: int, width: int, height: int) -> Crop:
    """Scale and crop box of `resize_and_center_crop`.

    An image that would be scaled to more than `MAX_STRETCH` times the target's width or height is cropped first, which
    bounds the cost of extreme aspect ratios; the reference scales the whole image.
    """
    kept_width = min(source_width, MAX_STRETCH * max(1, source_height * width // height))
    kept_height = min(source_height, MAX_STRETCH * max(1, source_width * height // width))
    scaled_width, scaled_height = covering_size(kept_width, kept_height, width, height)
    left, top, right, bottom = center_box(scaled_width, scaled_height, width, height)
    return Crop(
        columns=Axis(kept_width, scaled_width, left, right, (source_width - kept_width) // 2),
        rows=Axis(kept_height, scaled_height, top, bottom, (source_height - kept_height) // 2),
    )


def covering_size(source_width: int, source_height: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) in px of an image scaled, aspect kept, to just cover `width` x `height`."""
    scale = max(width / source_width, height / source_height)
    return round(source_width * scale), round(source_height * scale)


def center_box(source_width: int, source_height: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Centre crop box (left, top, right, bottom) in px; half pixels round to even."""
    left, top = (source_width - width) / 2, (source_height - height) / 2
    return round(left), round(top), round(left + width), round(top + height)


def _composite_strips(picture: Tensor, alpha: Tensor) -> Iterator[Tensor]:
    top = 0
    for levels in strips_of(picture):
        yield composite_on_grey(levels, alpha[top : top + len(levels)])
        top += len(levels)


def _union(axes: Sequence[Axis]) -> tuple[int, int]:
    """(begin, end) of the source px that any of the axes reads."""
    begins, ends = zip(*(axis.reach for axis in axes), strict=True)
    return min(begins), max(ends)


def light_gradient(light_source: LightSource, width: int, height: int) -> Rgb | None:
    """The start image of pass 1: a linear ramp from the light's side to the other; None without a light source."""
    if light_source == "None":
        return None
    along_width = light_source in ("Left Light", "Right Light")
    bright, dark = START_LEVELS
    ends = (bright, dark) if light_source in ("Left Light", "Top Light") else (dark, bright)
    # astype truncates; rounding would shift half of the levels by one.
    ramp = np.linspace(*ends, width if along_width else height).astype(np.uint8)
    line = ramp[None, :, None] if along_width else ramp[:, None, None]
    return np.broadcast_to(line, (height, width, 3)).copy()
