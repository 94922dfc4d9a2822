"""Where the denoiser starts: it predicts that all it sees is noise, beside random weights.

At high noise a prediction must follow its input to a few thousandths, which random weights take long to learn. So the
input is copied: conv_in writes the noisy latents and their negatives, the last shortcut hands them on, and conv_out
takes their difference behind the activation. Two constants in their norm's group make it divide every picture by
nearly the same number.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import nn

_LATENTS: Final = 4
_CALM: Final = 3.0
_CONSTANTS: Final = slice(2 * _LATENTS, 2 * _LATENTS + 2)
_COPIES: Final = 2 * _LATENTS + 2
"""Channels of the path: the latents, their negatives and the constants."""


def lay_identity(unet: Any) -> None:
    """Rewrite weights of a fresh UNet2DConditionModel in place; its first norm group must hold the whole path."""
    with torch.no_grad():
        _lay_in(unet.conv_in, unet.conv_norm_out)
        _skip_constants(unet)
        _lay_last_resnet(unet.up_blocks[-1].resnets[-1], unet.conv_in.out_channels)
        _lay_out(unet.conv_norm_out, unet.conv_out)


def _lay_in(conv: nn.Conv2d, norm: nn.GroupNorm) -> None:
    assert conv.bias is not None
    conv.weight[:_COPIES] = 0
    conv.bias[:_COPIES] = 0
    for channel in range(_LATENTS):
        conv.weight[channel, channel, 1, 1] = 1
        conv.weight[channel + _LATENTS, channel, 1, 1] = -1
    level = _CALM * math.sqrt(norm.num_channels / norm.num_groups / 2)
    conv.bias[_CONSTANTS] = torch.tensor([level, -level])


def _skip_constants(unet: Any) -> None:
    """Let no other convolution begin by reading the constants, which would show at the borders."""
    first = unet.down_blocks[0]
    for resnet in first.resnets:
        resnet.conv1.weight[:, _CONSTANTS] = 0
    for downsampler in first.downsamplers:
        downsampler.conv.weight[:, _CONSTANTS] = 0


def _lay_last_resnet(resnet: Any, width: int) -> None:
    """Hand on what conv_in wrote, which arrives behind the channels from below."""
    seen = slice(-width, None)
    for conv in (resnet.conv1, resnet.conv_shortcut):
        conv.weight[:, seen][:, _CONSTANTS] = 0
    shortcut = resnet.conv_shortcut
    shortcut.weight[:_COPIES] = 0
    shortcut.bias[:_COPIES] = 0
    for channel in range(_COPIES):
        shortcut.weight[channel, seen][channel] = 1
    resnet.conv2.weight[:_COPIES] = 0
    resnet.conv2.bias[:_COPIES] = 0


def _lay_out(norm: nn.GroupNorm, conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    norm.weight[: norm.num_channels // norm.num_groups] = _CALM
    conv.bias.zero_()
    conv.weight.zero_()
    for channel in range(_LATENTS):
        conv.weight[channel, channel, 1, 1] = 1
        conv.weight[channel, channel + _LATENTS, 1, 1] = -1
