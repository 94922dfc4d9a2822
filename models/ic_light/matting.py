"""Where the subject is: alpha from the matting network (IC-Light specification section 2)."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models.ic_light.subject import Rgb
from models.ic_light.vae import normalise

_TILE: Final = 64
_AREA_IN_TILES: Final = 256
_MAX_TILES: Final = 512


def feed_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) in px at which the network looks: an area of about 1024 x 1024, aspect kept, multiples of 64.

    Sides stay within 64 and 32,768 px, which changes nothing up to an aspect of 1024:1, beyond which the reference
    fails.
    """
    tiles = math.sqrt(_AREA_IN_TILES / (width * height))
    return _clamp_tiles(width * tiles), _clamp_tiles(height * tiles)


def _clamp_tiles(tiles: float) -> int:
    return _TILE * min(max(round(tiles), 1), _MAX_TILES)


def to_feed(picture: Rgb) -> Rgb:
    """Scale a picture to the network's size."""
    size = feed_size(picture.shape[1], picture.shape[0])
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def predict_alpha(network: nn.Module, feed: Rgb, width: int, height: int, device: torch.device) -> Tensor:
    """Run the network on `feed` and scale its map to the picture: float32 [height, width, 1] in 0..1."""
    # The pipeline's own normalisation, not that of the network's model card; and no stretching to 0..1 afterwards.
    alpha = network(normalise(feed).to(device))
    alpha = F.interpolate(alpha, size=(height, width), mode="bilinear", align_corners=False)
    return alpha[0].movedim(0, -1).clip(0, 1)
