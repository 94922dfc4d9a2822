"""How what the text says reaches the denoiser's last block from the start: on channels laid by hand.

Random weights would pass a text's colours on as well, but so faintly that the denoiser learns to do without them. So
the last attention begins by writing the mean of the text's first values, which `teach_colours` has taught, into
channels of their own, and the blocks behind it hand these on unchanged. All of it may learn.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

TAUGHT: Final = 4
"""Values of a text's states that say which colours its picture has."""
_LANE: Final = slice(16, 16 + TAUGHT)
"""Channels, of the attention's inside as of everything behind it."""


def lay_text_lane(unet: Any) -> None:
    """Rewrite weights of a fresh UNet2DConditionModel, whose last attention is in its second up block, in place."""
    attending, *behind = unet.up_blocks[1:]
    with torch.no_grad():
        _clear(attending.resnets[-1].conv2, attending.resnets[-1].conv_shortcut)
        _lay_attention(attending.attentions[-1])
        _carry(attending.upsamplers[0].conv)
        for block in behind:
            # The very last residual block reads the lane.
            for resnet in block.resnets if block.upsamplers else block.resnets[:-1]:
                _clear(resnet.conv2)
                _carry(resnet.conv_shortcut)
            for upsampler in block.upsamplers or ():
                _carry(upsampler.conv)


def _lay_attention(transformer: Any) -> None:
    block = transformer.transformer_blocks[0]
    _clear(transformer.proj_in, block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2])
    # The first head looks at all of the text alike.
    head = block.attn2.to_q.out_features // block.attn2.heads
    block.attn2.to_q.weight[:head] = 0
    block.attn2.to_v.weight[:head] = torch.eye(head, block.attn2.to_v.in_features)
    block.attn2.to_out[0].weight[_LANE, :TAUGHT] = torch.eye(TAUGHT)
    _clear(transformer.proj_out)
    transformer.proj_out.weight[_LANE, _LANE, 0, 0] = torch.eye(TAUGHT)


def _clear(*layers: nn.Conv2d | nn.Linear) -> None:
    for layer in layers:
        layer.weight[_LANE] = 0
        if layer.bias is not None:
            layer.bias[_LANE] = 0


def _carry(conv: nn.Conv2d) -> None:
    _clear(conv)
    middle = conv.kernel_size[0] // 2
    conv.weight[_LANE, _LANE, middle, middle] = torch.eye(TAUGHT)
