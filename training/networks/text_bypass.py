"""A bypass that carries the text's colour states to the denoiser's last block on reserved channels from the start.

Random weights pass a text's colours on so faintly that the denoiser learns to ignore them. So the last attention is
initialised to write the mean of the text's first state dimensions, which `pretrain_colour_states` trains, into reserved
channels, and the blocks behind it copy these unchanged. All of it stays trainable.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

COLOUR_STATES: Final = 4
"""State dimensions that encode the colour change a prompt stands for."""
_BYPASS: Final = slice(16, 16 + COLOUR_STATES)
"""Channels, within the attention and in everything behind it."""


def init_text_bypass(unet: Any) -> None:
    """Initialise a new UNet2DConditionModel, whose last attention is in its second up block, in place."""
    attending, *behind = unet.up_blocks[1:]
    with torch.no_grad():
        _zero_bypass(attending.resnets[-1].conv2, attending.resnets[-1].conv_shortcut)
        _init_attention(attending.attentions[-1])
        _pass_through(attending.upsamplers[0].conv)
        for block in behind:
            # The very last residual block reads the bypass.
            for resnet in block.resnets if block.upsamplers else block.resnets[:-1]:
                _zero_bypass(resnet.conv2)
                _pass_through(resnet.conv_shortcut)
            for upsampler in block.upsamplers or ():
                _pass_through(upsampler.conv)


def _init_attention(transformer: Any) -> None:
    block = transformer.transformer_blocks[0]
    _zero_bypass(transformer.proj_in, block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2])
    # The first head attends uniformly to all tokens.
    head = block.attn2.to_q.out_features // block.attn2.heads
    block.attn2.to_q.weight[:head] = 0
    block.attn2.to_v.weight[:head] = torch.eye(head, block.attn2.to_v.in_features)
    block.attn2.to_out[0].weight[_BYPASS, :COLOUR_STATES] = torch.eye(COLOUR_STATES)
    _zero_bypass(transformer.proj_out)
    transformer.proj_out.weight[_BYPASS, _BYPASS, 0, 0] = torch.eye(COLOUR_STATES)


def _zero_bypass(*layers: nn.Conv2d | nn.Linear) -> None:
    for layer in layers:
        layer.weight[_BYPASS] = 0
        if layer.bias is not None:
            layer.bias[_BYPASS] = 0


def _pass_through(conv: nn.Conv2d) -> None:
    _zero_bypass(conv)
    middle = conv.kernel_size[0] // 2
    conv.weight[_BYPASS, _BYPASS, middle, middle] = torch.eye(COLOUR_STATES)
