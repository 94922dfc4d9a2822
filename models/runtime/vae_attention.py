"""Attention of VAEs: one head of 512 channels over all latents, for which GPUs have no fast fused kernel.

FlashAttention and cuDNN end at 256 channels; the kernel that is left reads all keys and values anew for every 32
queries. Matrix products over chunks of queries read them once for thousands.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from models.runtime.load import for_device
from models.runtime.precision import bmm_to_float32

MAX_SCORES: Final = 2**26
"""Scores in memory at a time: 256 MiB in float32, and as much again for their exponentials; 4096 queries at 1024 px."""


def attend_in_chunks(query: Tensor, key: Tensor, value: Tensor, max_scores: int) -> Tensor:
    """Attend with one head: queries [rows, queries, width], keys and values [rows, tokens, width].

    At most `max_scores` scores, or those of one query of each row, are in memory at a time, in float32.
    """
    attended = torch.empty_like(query)
    scale = query.shape[-1] ** -0.5
    size = max(1, max_scores // (key.shape[0] * key.shape[1]))
    for part, result in zip(torch.split(query, size, 1), torch.split(attended, size, 1), strict=True):
        scores = bmm_to_float32(part, key.transpose(1, 2)).mul_(scale)
        result.copy_(torch.bmm(scores.softmax(-1).to(value.dtype), value))
    return attended


# To the compiler one operator: the number of chunks depends on the size, and one graph is to serve all sizes.
_attend: Final = torch.library.custom_op("facelight::attend_in_chunks", attend_in_chunks, mutates_args=())


_attend.register_fake(lambda query, *_: torch.empty_like(query))


class ChunkedAttention:
    """A processor of diffusers' `Attention` for images [rows, channels, h, w], as VAEs have it."""

    def __init__(self, max_scores: int = MAX_SCORES) -> None:
        """See `attend_in_chunks`."""
        self._max_scores = max_scores

    # Diffusers passes these by name, all None; those that it finds in the signature alone, and of others it warns.
    def __call__(self, layer: Any, x: Tensor, temb: None = None, **_: None) -> Tensor:  # noqa: ARG002
        """Attend from every pixel of the latents to all, and add that to `x`."""
        tokens = layer.group_norm(x).flatten(2).transpose(1, 2)
        attended = _attend(layer.to_q(tokens), layer.to_k(tokens), layer.to_v(tokens), self._max_scores)
        outcome: Tensor = x + layer.to_out[0](attended).transpose(1, 2).view_as(x)
        return outcome


def vae_for_device(vae: Any, device: torch.device) -> Any:
    """A VAE of diffusers as `for_device` has it; on CUDA its attention is `ChunkedAttention`.

    Elsewhere it is torch's fused kernel, which takes any width there.
    """
    if device.type == "cuda":
        vae.set_attn_processor(ChunkedAttention())
    return for_device(vae, device)
