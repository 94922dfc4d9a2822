"""The random numbers of one request (IC-Light specification section 12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

_LATENT_CHANNELS: Final = 4


class Noise:
    """One running generator per request: every draw covers all its pictures, in the order in which they are used.

    The stream depends on the kind of device and on the number of pictures.
    """

    def __init__(self, seed: int, count: int, device: torch.device) -> None:
        """Seed the stream of `count` pictures with `seed` in 0..2^64-1."""
        self._generator = torch.Generator(device).manual_seed(seed)
        self._count = count
        self._device = device

    def draw(self, size: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draw the next standard normal [count, 4, height, width]; `size` is (height, width) in latent pixels."""
        shape = (self._count, _LATENT_CHANNELS, *size)
        return torch.randn(shape, generator=self._generator, device=self._device, dtype=dtype)
