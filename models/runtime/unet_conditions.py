"""What the steps of a request have in common, computed before the first: the text's keys and values, the timesteps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import WeightsError
from models.runtime.unet import attention, cross_attentions, residual_blocks

_SUPPORTED: Final = {
    "act_fn": "silu",
    "addition_embed_type": (None, "text_time"),
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "conv_in_kernel": 3,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
}
"""What `models.runtime.unet` takes for granted of a UNet's configuration."""


class TextContext(NamedTuple):
    """The text as one cross-attention sees it.

    `key`, `value`: [rows, tokens, width]. `bias`: [rows, 1, 1, tokens], minus infinity where a row's text has ended, or
    None if all are equally long.
    """

    key: Tensor
    value: Tensor
    bias: Tensor | None = None


def check_supported(unet: Any) -> None:
    """Raise `WeightsError` unless `unet` is of the kind that `evaluate` computes."""
    for name, wanted in _SUPPORTED.items():
        found = unet.config.get(name)
        if found not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            raise WeightsError(f"The UNet's configuration has {name} {found!r}, which is not supported.")


def text_contexts(
    unet: Any, tokens: Tensor, bias: Tensor | None = None, rows: Tensor | None = None
) -> tuple[TextContext, ...]:
    """Project text embeddings [texts, tokens, context width] for every cross-attention, and repeat them for `rows`."""
    bias = None if bias is None else repeat(bias, rows)
    return tuple(
        TextContext(repeat(layer.to_k(tokens), rows), repeat(layer.to_v(tokens), rows), bias)
        for layer in cross_attentions(unet)
    )


def rows_of_pictures(pictures: Sequence[int], device: torch.device) -> Tensor | None:
    """Which row of a batch of requests each picture's row repeats, `pictures` for every request; None if one each."""
    if all(count == 1 for count in pictures):
        return None
    return torch.arange(len(pictures)).repeat_interleave(torch.tensor(pictures)).to(device)


def repeat(x: Tensor, rows: Tensor | None) -> Tensor:
    """The rows of `x` as `rows_of_pictures` says."""
    return x if rows is None else x[rows]


def attend_to_text(query: Tensor, context: TextContext, heads: int) -> Tensor:
    """Plain cross-attention, for `models.runtime.unet.evaluate`."""
    return attention(query, context.key, context.value, heads, context.bias)


def time_shifts(unet: Any, timesteps: Tensor, added: Tensor | None = None) -> Tensor:
    """What each of `timesteps` [steps], fractions or not, adds to the residual blocks: [steps, rows, channels].

    `added` [rows, embedding width] is what `added_embedding` returns, for the UNets that have one; else there is one
    row for all.
    """
    frequencies = unet.time_proj(timesteps).to(unet.dtype)
    embedding: Tensor = unet.time_embedding(frequencies)[:, None]
    activated = F.silu(embedding if added is None else embedding + added)
    return torch.cat([block.time_emb_proj(activated) for block in residual_blocks(unet)], -1)


def added_embedding(unet: Any, pooled: Tensor, time_ids: Tensor) -> Tensor:
    """SDXL's second embedding: pooled text [rows, width] and sizes [rows, 6] give [rows, embedding width]."""
    sizes = unet.add_time_proj(time_ids.flatten()).unflatten(0, time_ids.shape).flatten(1)
    return unet.add_embedding(torch.cat((pooled, sizes.to(pooled.dtype)), -1))  # type: ignore[no-any-return]
