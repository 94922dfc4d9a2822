"""The random numbers of one request (IC-Light specification section 12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

_LATENT_CHANNELS: Final = 4


class Noise:
    """One running generator per request: every draw covers all its pictures, in the order in which they are used.

    The stream depends on the number of pictures and on the kind of `source`, the device that draws it. Drawn on the
    CPU it is the same whatever `device` computes with it.
    """

    def __init__(self, seed: int, count: int, device: torch.device, source: torch.device | None = None) -> None:
        """Seed the stream of `count` pictures with `seed` in 0..2^53-1; `source` is `device` if not given."""
        self._source = device if source is None else source
        self._generator = torch.Generator(self._source).manual_seed(seed)
        self._count = count
        self._device = device

    def draw(self, size: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draw the next standard normal [count, 4, height, width]; `size` is (height, width) in latent pixels."""
        shape = (self._count, _LATENT_CHANNELS, *size)
        # In another precision the CPU's stream would be another one, and precision depends on the device.
        drawn = torch.float32 if self._source.type == "cpu" else dtype
        return torch.randn(shape, generator=self._generator, device=self._source, dtype=drawn).to(self._device, dtype)


class BatchNoise:
    """The streams of several requests that are drawn together: each draws its own, and the rows are put together."""

    def __init__(self, streams: Sequence[Noise]) -> None:
        """Take the streams, in the order of the requests."""
        self._streams = streams

    def draw(self, size: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draw the next standard normal [pictures of all requests, 4, height, width]."""
        return torch.cat([stream.draw(size, dtype) for stream in self._streams])
