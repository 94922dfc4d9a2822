"""One evaluation of a UNet, over the modules of diffusers' `UNet2DConditionModel`.

Diffusers' own forward passes know nothing of steps: they project the same text in every layer of every step, embed
every timestep anew, and take other branches for sizes that are no multiple of the network's. Here the keys and values
of the text come from outside (`models.runtime.unet_conditions`), as does what a timestep adds to each residual block,
and there is one path for all sizes, so that a compiler needs to see the function once only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Context = TypeVar("Context")
"""What one cross-attention looks at; a tuple of tensors."""
Attend = Callable[[Tensor, Context, int], Tensor]
"""Queries [rows, tokens, width], a context and the number of heads give what is attended to [rows, tokens, width]."""


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
        x = x + _look_elsewhere(layer.attn1, layer.norm1(x), next(contexts), attend)
    else:
        x = x + _look_around(layer.attn1, layer.norm1(x))
    x = x + _look_elsewhere(layer.attn2, layer.norm2(x), next(contexts), attend)
    hidden, gate = layer.ff.net[0].proj(layer.norm3(x)).chunk(2, -1)
    outcome: Tensor = x + layer.ff.net[2](hidden * F.gelu(gate))
    return outcome


def _look_around(layer: Any, x: Tensor) -> Tensor:
    attended: Tensor = layer.to_out[0](attention(layer.to_q(x), layer.to_k(x), layer.to_v(x), layer.heads))
    return attended


def _look_elsewhere(layer: Any, x: Tensor, context: Context, attend: Attend[Context]) -> Tensor:
    attended: Tensor = layer.to_out[0](attend(layer.to_q(x), context, layer.heads))
    return attended
