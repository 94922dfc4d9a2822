"""Compilation and graph capture before the first request."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from models.ic_light.networks import Networks
from models.ic_light.params import Params
from models.ic_light.vae import LATENT_SCALE
from models.outcomes import Decoded
from models.runtime.runner import Runner
from models.runtime.unet import text_contexts, time_shifts

_CHUNK: Final = 77


class _Size(NamedTuple):
    """UNet rows, latent height and width, and text chunks of a batch."""

    rows: int
    height: int
    width: int
    chunks: int


_SMALL: Final = _Size(rows=2, height=40, width=56, chunks=1)
_LARGE: Final = _Size(rows=6, height=48, width=64, chunks=2)
"""Two sizes that differ in every dimension: equal dimensions are compiled as static, and so is a batch of one row."""


class WarmUp:
    """Compiles and captures the runners of a pipeline."""

    def __init__(
        self,
        networks: Networks,
        encode_text: Runner[Tensor],
        predict: Runner[Tensor],
        encode: Runner[Tensor],
        decode: Runner[Decoded],
    ) -> None:
        """Use the runners of the pipeline."""
        self._encode_text = encode_text
        self._networks, self._predict, self._encode, self._decode = networks, predict, encode, decode

    def compile(self) -> None:
        """Compile for any image size and count, with and without guidance, and any text length."""
        for unet in self._unets():
            for sizes in ((_SMALL, _LARGE), (_SMALL._replace(rows=1), _LARGE._replace(rows=1))):
                self._predict.compile(unet, *(self._inputs(unet, size) for size in sizes))
        vae = self._networks.vae
        for layers in range(1, 1 + len(self._unets())):  # foreground, and background
            self._encode.compile(vae, *((self._picture(size).repeat(layers, 1, 1, 1),) for size in (_SMALL, _LARGE)))
        self._decode.compile(vae, *((self._latents(size),) for size in (_SMALL, _LARGE)))

    def capture(self) -> None:
        """Capture the text encoder's graph, and the UNets' of both passes of a default request.

        The VAE's would keep a gigabyte of memory for themselves; its few launches hide behind the last steps.
        """
        ids = torch.zeros(1, _CHUNK, dtype=torch.int64, device=self._networks.device)
        self._encode_text.capture(self._networks.text_encoder, ids)
        params = default_params()
        for width, height in ((params.width, params.height), params.output_size):
            size = _Size(rows=2, height=height // LATENT_SCALE, width=width // LATENT_SCALE, chunks=1)
            for unet in self._unets():
                self._predict.capture(unet, *self._inputs(unet, size))

    def _unets(self) -> list[Any]:
        return [unet for unet in (self._networks.unet, self._networks.background_unet) if unet is not None]

    def _inputs(self, unet: Any, size: _Size) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        device, dtype = self._networks.device, unet.dtype
        batch = torch.zeros(size.rows, unet.config.in_channels, size.height, size.width, device=device, dtype=dtype)
        text = torch.zeros(size.rows, _CHUNK * size.chunks, unet.config.cross_attention_dim, device=device, dtype=dtype)
        return batch, time_shifts(unet, torch.tensor([0], device=device))[0], text_contexts(unet, text)

    def _picture(self, size: _Size) -> Tensor:
        shape = (1, LATENT_SCALE * size.height, LATENT_SCALE * size.width, 3)
        return torch.zeros(shape, dtype=torch.uint8, device=self._networks.device)

    def _latents(self, size: _Size) -> Tensor:
        vae = self._networks.vae
        shape = (1, vae.config.latent_channels, size.height, size.width)
        return torch.zeros(shape, dtype=self._networks.unet.dtype, device=self._networks.device)


def default_params() -> Params:
    """A default request, without its images."""
    return Params.model_validate({"subject_image": "-", "prompt": "-", "seed": 0})
