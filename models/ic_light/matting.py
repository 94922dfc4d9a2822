"""Alpha of the subject from a matting network (IC-Light specification sections 2 and 16)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.ic_light.rmbg import Rmbg, widths_of
from models.ic_light.vae import normalise
from models.imaging.resample import resample
from models.runtime.load import empty, fill
from models.runtime.state_dicts import read_state_dict

_TILE: Final = 64
_AREA_IN_TILES: Final = 256
_MAX_TILES: Final = 512


class Matting(ABC):
    """A loaded matting network: what the CPU computes ahead of a run, and what the device computes in it."""

    @abstractmethod
    def to_feed(self, picture: Tensor) -> Tensor:
        """The CPU's part, for a uint8 image [height, width, 3]; may be called by several threads at once."""

    @abstractmethod
    def predict(self, feed: Tensor) -> Tensor:
        """The device's part, on the result of `to_feed`: float32 [1, 1, height, width], 1 for the subject."""

    def alpha(self, feed: Tensor, width: int, height: int) -> Tensor:
        """Compute the device's part and scale its output to the image: float32 [height, width, 1] in 0..1."""
        return fit_alpha(self.predict(feed), width, height)


def fit_alpha(alpha: Tensor, width: int, height: int) -> Tensor:
    """Scale a map [1, 1, h, w] to [height, width, 1], clipped to 0..1; no min-max normalisation."""
    alpha = F.interpolate(alpha, size=(height, width), mode="bilinear", align_corners=False)
    return alpha[0].movedim(0, -1).clip_(0, 1)


class RmbgMatting(Matting):
    """RMBG-1.4, as the reference runs it."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        """Move the network, in evaluation mode, to `device`."""
        self.network = network.to(device)
        self._device = device

    @classmethod
    def load(cls, path: Path, device: torch.device) -> RmbgMatting:
        """Build the network with the widths of the file at `path`."""
        state = read_state_dict(path)
        network = empty(lambda: Rmbg(widths_of(state)))
        fill(network, state, device, torch.float32)
        network(torch.zeros(1, 3, _TILE, _TILE, device=device))  # the widths must also fit each other
        return cls(network, device)

    def to_feed(self, picture: Tensor) -> Tensor:
        """Scale an image to the network's input size, aspect kept."""
        return resample(picture, *feed_size(picture.shape[1], picture.shape[0]))

    def predict(self, feed: Tensor) -> Tensor:
        """Run the network on an image of its input size: float32 [1, 1, height, width]."""
        # The pipeline's own normalisation, not that of the network's model card.
        return torch.as_tensor(self.network(normalise(feed.to(self._device, non_blocking=True)[None])))


def feed_size(width: int, height: int) -> tuple[int, int]:
    """Input (width, height) of RMBG-1.4 in px: an area of about 1024 x 1024, aspect kept, multiples of 64.

    Sides are clamped to 64..32,768 px: no change up to an aspect of 1024:1, beyond which the reference fails.
    """
    tiles = math.sqrt(_AREA_IN_TILES / (width * height))
    return _clamp_tiles(width * tiles), _clamp_tiles(height * tiles)


def _clamp_tiles(tiles: float) -> int:
    return _TILE * min(max(round(tiles), 1), _MAX_TILES)
