"""Stable Diffusion's UNets: one evaluation over the modules of diffusers' `UNet2DConditionModel`, and its inputs.

Diffusers' own forward passes project the same text in every layer of every step, embed every timestep anew, and take
other branches for sizes that are not a multiple of the network's. Here the keys and values of the text, and what a
timestep adds to each residual block, are inputs that are computed once per request, and there is one path for all
sizes, so that one compiled graph serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import WeightsError
from models.runtime.load import for_device
from models.runtime.projections import project, repeat, weights_for_device

Context = TypeVar("Context")
"""Keys and values of one cross-attention; a tuple of tensors."""
Attend = Callable[[Tensor, Context, int], Tensor]
"""Queries [rows, tokens, width], a context and the number of heads give the output [rows, tokens, width]."""
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
"""What `evaluate` takes for granted of a UNet's configuration."""


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
    keys, values = (project(tokens, weights, rows) for weights in text_weights(unet))
    return tuple(TextContext(key, value, bias) for key, value in zip(keys, values, strict=True))


def text_weights(unet: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The weights that project a text to keys and to values, one of each for every cross-attention."""
    layers = cross_attentions(unet)
    return [layer.to_k.weight for layer in layers], [layer.to_v.weight for layer in layers]


def unet_for_device(unet: Any, device: torch.device) -> Any:
    """A UNet of diffusers as `for_device` has it; on CUDA all texts' projections are a few matrix products."""
    for weights in text_weights(unet):
        weights_for_device(weights, device)
    return for_device(unet, device)


def rows_of_pictures(pictures: Sequence[int], device: torch.device) -> Tensor | None:
    """Which row of a batch of requests each picture's row repeats, `pictures` for every request; None if one each."""
    if all(count == 1 for count in pictures):
        return None
    return torch.arange(len(pictures)).repeat_interleave(torch.tensor(pictures)).to(device)


def attend_to_text(query: Tensor, context: TextContext, heads: int) -> Tensor:
    """Plain cross-attention, for `evaluate`."""
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


def evaluate(unet: Any, latents: Tensor, shift: Tensor, contexts: Sequence[Context], attend: Attend[Context]) -> Tensor:
    """Predict the noise [rows, 4, h, w] in `latents` [rows, channels, h, w]; h and w may be any.

    `shift` [rows or 1, channels] is what the timestep adds to the residual blocks, side by side in the order of
    `residual_blocks`; `contexts` belong to `cross_attentions`, in their order.
    """
    shifts = iter(torch.split(shift[:, :, None, None], [block.out_channels for block in residual_blocks(unet)], 1))
    texts = iter(contexts)

    def block(parts: Any, number: int, x: Tensor) -> Tensor:
        x = _residual(parts.resnets[number], x, next(shifts))
        transformers = getattr(parts, "attentions", ())
        return _transformer(transformers[number], x, texts, attend) if number < len(transformers) else x

    x = unet.conv_in(latents)
    skips = [x]
    for down in unet.down_blocks:
        for number in range(len(down.resnets)):
            skips.append(x := block(down, number, x))
        for downsampler in down.downsamplers or ():
            skips.append(x := downsampler(x))
    x = block(unet.mid_block, 0, x)
    x = _residual(unet.mid_block.resnets[1], x, next(shifts))
    for up in unet.up_blocks:
        for number in range(len(up.resnets)):
            x = block(up, number, torch.cat((x, skips.pop()), 1))
        for upsampler in up.upsamplers or ():
            # To the size that the way down had here, which need not be twice this one's.
            x = upsampler.conv(F.interpolate(x, size=skips[-1].shape[2:], mode="nearest"))
    noise: Tensor = unet.conv_out(F.silu(unet.conv_norm_out(x)))
    return noise


def residual_blocks(unet: Any) -> list[Any]:
    """The residual blocks, in the order in which they are evaluated."""
    return [block for part in _parts(unet) for block in part.resnets]


def cross_attentions(unet: Any) -> list[Any]:
    """The cross-attentions, in the order in which they are evaluated."""
    transformers = (found for part in _parts(unet) for found in getattr(part, "attentions", ()))
    layers = (layer for transformer in transformers for layer in transformer.transformer_blocks)
    return [attn for layer in layers for attn in ((layer.attn1,) * layer.only_cross_attention + (layer.attn2,))]


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Attend from [rows, queries, width] to keys and values [rows, tokens, width], head by head.

    `bias` [rows, 1, 1, tokens] is added to the scores.
    """
    query, key, value = (split_heads(x, heads) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """View [rows, tokens, width] as [rows, heads, tokens, width / heads]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _parts(unet: Any) -> list[Any]:
    return [*unet.down_blocks, unet.mid_block, *unet.up_blocks]


def _residual(block: Any, x: Tensor, shift: Tensor) -> Tensor:
    hidden = block.conv1(F.silu(block.norm1(x))) + shift
    hidden = block.conv2(F.silu(block.norm2(hidden)))
    outcome: Tensor = hidden + (x if block.conv_shortcut is None else block.conv_shortcut(x))
    return outcome


def _transformer(block: Any, x: Tensor, contexts: Iterator[Context], attend: Attend[Context]) -> Tensor:
    tokens = _project(block.proj_in, block.norm(x).permute(0, 2, 3, 1).flatten(1, 2))
    for layer in block.transformer_blocks:
        tokens = _layer(layer, tokens, contexts, attend)
    rows, _, height, width = x.shape
    return x + _project(block.proj_out, tokens).view(rows, height, width, -1).permute(0, 3, 1, 2)


def _project(layer: Any, tokens: Tensor) -> Tensor:
    """A linear layer, which older networks have as a convolution of one pixel."""
    return F.linear(tokens, layer.weight.flatten(1), layer.bias)


def _layer(layer: Any, x: Tensor, contexts: Iterator[Context], attend: Attend[Context]) -> Tensor:
    if layer.only_cross_attention:
        x = x + _cross_attention(layer.attn1, layer.norm1(x), next(contexts), attend)
    else:
        x = x + _self_attention(layer.attn1, layer.norm1(x))
    x = x + _cross_attention(layer.attn2, layer.norm2(x), next(contexts), attend)
    hidden, gate = layer.ff.net[0].proj(layer.norm3(x)).chunk(2, -1)
    outcome: Tensor = x + layer.ff.net[2](hidden * F.gelu(gate))
    return outcome


def _self_attention(layer: Any, x: Tensor) -> Tensor:
    attended: Tensor = layer.to_out[0](attention(layer.to_q(x), layer.to_k(x), layer.to_v(x), layer.heads))
    return attended


def _cross_attention(layer: Any, x: Tensor, context: Context, attend: Attend[Context]) -> Tensor:
    attended: Tensor = layer.to_out[0](attend(layer.to_q(x), context, layer.heads))
    return attended
