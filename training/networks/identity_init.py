"""Where the denoiser starts: as the identity, with what it learns added as much as a timestep needs.

The noise is what the sampler asks for, but at high noise it must follow the input to a few thousandths, or what is left
of it is no picture: random weights take long to learn that, and every step of training shakes it again. A network that
predicts velocities has no such trouble. In terms of the noise a velocity v is

    noise = noisy latents + sqrt(alpha) * u,    u = v - (1 - sqrt(1 - alpha)) / sqrt(alpha) * noisy latents,

where u is of unit scale at every timestep. So the noisy latents are copied past everything: conv_in writes them and
their negatives, the last shortcut hands them on, and conv_out takes their difference behind the activation. All that is
added comes out of the last residual block, whose norm is the gain: two channels of every group hold a constant and its
negative, which the timestep sets to about 1 / sqrt(alpha), and so the norm divides the others by that.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.frozen_channels import hold, hold_rows
from training.networks.norm_anchor import CALM, constants

_LATENTS: Final = 4
_COPIES: Final = 2 * _LATENTS + 2
"""Channels of the path: the latents, their negatives and two constants."""
_CONSTANTS: Final = slice(_COPIES - 2, _COPIES)
_RIDGE: Final = 1e-5


def lay_gain(unet: Any, alphas: Tensor) -> None:
    """Rewrite weights of a fresh UNet2DConditionModel in place; `alphas` [1000] is the signal's share of variance.

    Its first norm group must hold the whole path.
    """
    last = unet.up_blocks[-1].resnets[-1]
    with torch.no_grad():
        _lay_in(unet.conv_in, unet.conv_norm_out)
        _skip_constants(unet)
        _lay_shortcut(last, unet.conv_in.out_channels)
        _lay_norm(last, _features(unet, len(alphas)), alphas)
        _lay_out(unet.conv_norm_out, unet.conv_out)


def hold_gain(unet: Any) -> None:
    """Keep the path and the gain from learning."""
    last = unet.up_blocks[-1].resnets[-1]
    laid = (last.norm2, last.time_emb_proj, last.conv_shortcut, last.conv2.bias)
    for part in (unet.time_embedding, unet.conv_norm_out, unet.conv_out, *laid):
        part.requires_grad_(False)
    levels = [slice(group.stop - 2, group.stop) for group in _groups(last.norm2)]
    hold_rows(unet.conv_in, slice(0, _COPIES))
    hold_rows(last.conv1, *levels)
    # Nothing is read of the channels behind the path.
    hold(last.conv2.weight, slice(2 * _LATENTS, None), *((slice(None), level) for level in levels))


def _groups(norm: nn.GroupNorm) -> list[slice]:
    size = norm.num_channels // norm.num_groups
    return [slice(at, at + size) for at in range(0, norm.num_channels, size)]


def _lay_in(conv: nn.Conv2d, norm: nn.GroupNorm) -> None:
    assert conv.bias is not None
    conv.weight[:_COPIES] = 0
    conv.bias[:_COPIES] = 0
    for channel in range(_LATENTS):
        conv.weight[channel, channel, 1, 1] = 1
        conv.weight[channel + _LATENTS, channel, 1, 1] = -1
    conv.bias[_CONSTANTS] = constants(norm.num_channels // norm.num_groups)


def _skip_constants(unet: Any) -> None:
    """Let no other convolution begin by reading the constants, which would show at the borders."""
    first = unet.down_blocks[0]
    for resnet in first.resnets:
        resnet.conv1.weight[:, _CONSTANTS] = 0
    for downsampler in first.downsamplers:
        downsampler.conv.weight[:, _CONSTANTS] = 0


def _lay_shortcut(resnet: Any, width: int) -> None:
    """Hand on what conv_in wrote, which arrives behind the channels from below."""
    seen = slice(-width, None)
    resnet.conv1.weight[:, seen][:, _CONSTANTS] = 0
    shortcut = resnet.conv_shortcut
    shortcut.weight.zero_()
    shortcut.bias.zero_()
    for channel in range(_COPIES):
        shortcut.weight[channel, seen][channel] = 1


def _lay_norm(resnet: Any, features: Tensor, alphas: Tensor) -> None:
    norm, proj = resnet.norm2, resnet.time_emb_proj
    norm.weight.fill_(CALM)
    norm.bias.zero_()
    proj.weight.zero_()
    proj.bias.zero_()
    resnet.conv1.bias.zero_()
    resnet.conv2.weight.zero_()
    resnet.conv2.bias.zero_()
    groups = _groups(norm)
    row = _fit(features, _levels(alphas, groups[0].stop))
    for group in groups:
        resnet.conv1.weight[group.stop - 2 : group.stop] = 0
        for channel, sign in ((group.stop - 2, 1), (group.stop - 1, -1)):
            proj.weight[channel], proj.bias[channel] = sign * row[:-1], sign * row[-1]


def _levels(alphas: Tensor, size: int) -> Tensor:
    """Constants that make a group of `size`, the others of unit variance, divide by CALM / sqrt(alpha)."""
    return ((size * CALM**2 / alphas - (size - 2)) / 2).sqrt()


def _features(unet: Any, timesteps: int) -> Tensor:
    """What a residual block sees of every timestep: [timesteps, width]."""
    return torch.as_tensor(F.silu(unet.time_embedding(unet.time_proj(torch.arange(timesteps)))))


def _fit(features: Tensor, wanted: Tensor) -> Tensor:
    """Weights and, last, the bias that make `wanted` [n] of `features` [n, width], with the least relative error."""
    columns = torch.cat((features, torch.ones(len(features), 1)), dim=1).double() / wanted.double()[:, None]
    gram = columns.T @ columns + _RIDGE * torch.eye(columns.shape[1], dtype=torch.float64)
    return torch.as_tensor(torch.linalg.solve(gram, columns.sum(dim=0)).float())


def _lay_out(norm: nn.GroupNorm, conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    size = norm.num_channels // norm.num_groups
    norm.weight[:size] = CALM
    conv.bias.zero_()
    conv.weight.zero_()
    # What the norm divides by where the noisy latents are of unit variance.
    scale = math.sqrt((2 * _LATENTS + size * CALM**2) / size) / CALM
    for channel in range(_LATENTS):
        conv.weight[channel, channel, 1, 1] = scale
        conv.weight[channel, channel + _LATENTS, 1, 1] = -scale
