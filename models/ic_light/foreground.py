"""The subject on grey, cut to the size of a pass (IC-Light specification sections 2.5 and 3)."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.ic_light.subject import GREY, Rgb, resample

_STRIP: Final = 512
"""Rows that are blended at a time."""
MAX_STRETCH: Final = 16
"""How much wider or higher than the target a scaled picture may become before its ends are cut off unscaled."""


def composite_on_grey(picture: Rgb, alpha: Tensor, sigma: float = 0.0) -> Rgb:
    """Put the subject on grey 127: `alpha` is [height, width, 1] in 0..1, the size of `picture`; truncates to 8 bit.

    `sigma` is added to the subject's levels; relighting adds none.
    """
    blended = np.empty_like(picture)
    # In strips: as floating-point numbers a large picture takes a gigabyte.
    for top in range(0, len(picture), _STRIP):
        rows = slice(top, top + _STRIP)
        levels = torch.tensor(picture[rows], dtype=torch.float32, device=alpha.device)
        mixed = GREY + (levels - GREY + sigma) * alpha[rows]
        blended[rows] = mixed.clip(0, 255).to(torch.uint8).cpu().numpy()
    return blended


def resize_and_center_crop(picture: Rgb, width: int, height: int) -> Rgb:
    """Scale until the target is covered, then cut its centre out; there is no letterboxing.

    A picture over `MAX_STRETCH` times as long as the target's shape loses its ends before it is scaled, which bounds
    the memory of the enlargement; the reference would scale it whole.
    """
    source = _cut_far_ends(picture, width, height)
    scaled = resample(source, *covering_size(source.shape[1], source.shape[0], width, height))
    left, top, right, bottom = center_box(scaled.shape[1], scaled.shape[0], width, height)
    return scaled[top:bottom, left:right]


def covering_size(source_width: int, source_height: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) in px of a picture scaled, aspect kept, until it just covers `width` x `height`."""
    scale = max(width / source_width, height / source_height)
    return round(source_width * scale), round(source_height * scale)


def center_box(source_width: int, source_height: int, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in px of the centre; an edge between two pixels goes to the even one."""
    left, top = (source_width - width) / 2, (source_height - height) / 2
    return round(left), round(top), round(left + width), round(top + height)


def _cut_far_ends(picture: Rgb, width: int, height: int) -> Rgb:
    own_height, own_width = picture.shape[:2]
    keep_width = min(own_width, MAX_STRETCH * max(1, own_height * width // height))
    keep_height = min(own_height, MAX_STRETCH * max(1, own_width * height // width))
    left, top = (own_width - keep_width) // 2, (own_height - keep_height) // 2
    return picture[top : top + keep_height, left : left + keep_width]
