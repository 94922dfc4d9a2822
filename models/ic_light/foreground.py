"""The subject on grey, cut to the size of a pass (IC-Light specification sections 2.5 and 3)."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.ic_light.subject import GREY, Rgb

MAX_STRETCH: Final = 16
"""How much wider or higher than the target a scaled picture may become before its ends are cut off unscaled."""


def composite_on_grey(picture: Rgb, alpha: Tensor) -> Rgb:
    """Put the subject on grey 127: `alpha` is [height, width, 1] in 0..1, the size of `picture`; truncates to 8 bit."""
    levels = torch.tensor(picture, dtype=torch.float32, device=alpha.device)
    blended = GREY + (levels - GREY) * alpha
    return np.asarray(blended.clip(0, 255).to(torch.uint8).cpu().numpy())


def resize_and_center_crop(picture: Rgb, width: int, height: int) -> Rgb:
    """Scale until the target is covered, then cut its centre out; there is no letterboxing.

    A picture over `MAX_STRETCH` times as long as the target's shape loses its ends before it is scaled, which bounds
    the memory of the enlargement; the reference would scale it whole.
    """
    source = _cut_far_ends(Image.fromarray(picture), width, height)
    scale = max(width / source.width, height / source.height)
    scaled = source.resize((round(source.width * scale), round(source.height * scale)), Image.Resampling.LANCZOS)
    left, top = (scaled.width - width) / 2, (scaled.height - height) / 2
    # Half-integral edges are left to Pillow, which rounds each to the even neighbour.
    return np.asarray(scaled.crop((left, top, left + width, top + height)))


def _cut_far_ends(picture: Image.Image, width: int, height: int) -> Image.Image:
    keep_width = min(picture.width, MAX_STRETCH * max(1, picture.height * width // height))
    keep_height = min(picture.height, MAX_STRETCH * max(1, picture.width * height // width))
    left, top = (picture.width - keep_width) // 2, (picture.height - keep_height) // 2
    return picture.crop((left, top, left + keep_width, top + keep_height))
