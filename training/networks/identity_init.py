"""Initialisation of the denoiser as the identity, with a timestep-dependent gain on what it learns.

The sampler needs a noise prediction, which at high noise levels must match the input to a few thousandths, or nothing
is left of the picture: random weights learn that slowly, and every step of training perturbs it again. A network that
predicts velocities has no such problem. In terms of the noise a velocity v is

    noise = noisy latents + sqrt(alpha) * u,    u = v - (1 - sqrt(1 - alpha)) / sqrt(alpha) * noisy latents,

where u is of unit scale at every timestep. So the noisy latents bypass all blocks: conv_in writes them and
their negatives, the last shortcut copies them, and conv_out takes their difference after the activation. The learned
part is the output of the last residual block, whose norm is the gain: two channels of every group hold a constant and
its negative, which the time embedding sets to about 1 / sqrt(alpha), so that the norm divides the others by that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.frozen_channels import freeze, freeze_output_channels
from training.networks.norm_anchor import ANCHOR_DIVISOR, anchor_values

_LATENTS: Final = 4
_COPIES: Final = 2 * _LATENTS + 2
"""Channels of the identity path: the latents, their negatives and two anchors."""
_ANCHORS: Final = slice(_COPIES - 2, _COPIES)
_RIDGE: Final = 1e-5
"""Of 1000 timesteps; of fewer by as much less."""


@dataclass(frozen=True)
class Gains:
    """Squared gains of the last block's norm groups, [groups, n], at n `timesteps`, the ones that count.

    The gains depend on these `channels` of the time embedding: nothing else may be added to them.
    """

    squares: Tensor
    timesteps: Tensor
    channels: slice


def init_identity(unet: Any, alphas: Tensor, gains: Gains | None = None) -> None:
    """Initialise a new UNet2DConditionModel in place; `alphas` [1000] are the cumulative alphas of all timesteps.

    The first norm group must hold the whole identity path. Without other `gains` they are sqrt(alpha) at all timesteps.
    """
    last = unet.up_blocks[-1].resnets[-1]
    if gains is None:
        gains = Gains(alphas.expand(last.norm2.num_groups, -1), torch.arange(len(alphas)), slice(None))
    with torch.no_grad():
        _init_conv_in(unet.conv_in, unet.conv_norm_out)
        _ignore_anchors(unet)
        _init_shortcut(last, unet.conv_in.out_channels)
        _init_norm(last, _features(unet, gains.timesteps)[:, gains.channels], gains)
        _init_conv_out(unet.conv_norm_out, unet.conv_out)


def freeze_identity_init(unet: Any) -> None:
    """Freeze the identity path and the gain."""
    last = unet.up_blocks[-1].resnets[-1]
    frozen = (last.norm2, last.time_emb_proj, last.conv_shortcut, last.conv2.bias)
    for part in (unet.time_embedding, unet.conv_norm_out, unet.conv_out, *frozen):
        part.requires_grad_(False)
    levels = [slice(group.stop - 2, group.stop) for group in _groups(last.norm2)]
    freeze_output_channels(unet.conv_in, slice(0, _COPIES))
    freeze_output_channels(last.conv1, *levels)
    # conv_out reads no channels behind the path.
    freeze(last.conv2.weight, slice(2 * _LATENTS, None), *((slice(None), level) for level in levels))


def _groups(norm: nn.GroupNorm) -> list[slice]:
    size = norm.num_channels // norm.num_groups
    return [slice(at, at + size) for at in range(0, norm.num_channels, size)]


def _init_conv_in(conv: nn.Conv2d, norm: nn.GroupNorm) -> None:
    assert conv.bias is not None
    conv.weight[:_COPIES] = 0
    conv.bias[:_COPIES] = 0
    for channel in range(_LATENTS):
        conv.weight[channel, channel, 1, 1] = 1
        conv.weight[channel + _LATENTS, channel, 1, 1] = -1
    conv.bias[_ANCHORS] = anchor_values(norm.num_channels // norm.num_groups)


def _ignore_anchors(unet: Any) -> None:
    """Zero the anchor inputs of the other convolutions, whose padding would make them visible at the borders."""
    first = unet.down_blocks[0]
    for resnet in first.resnets:
        resnet.conv1.weight[:, _ANCHORS] = 0
    for downsampler in first.downsamplers:
        downsampler.conv.weight[:, _ANCHORS] = 0


def _init_shortcut(resnet: Any, width: int) -> None:
    """Copy the skip connection of conv_in, which is concatenated behind the channels of the level below."""
    skip = slice(-width, None)
    resnet.conv1.weight[:, skip][:, _ANCHORS] = 0
    shortcut = resnet.conv_shortcut
    shortcut.weight.zero_()
    shortcut.bias.zero_()
    for channel in range(_COPIES):
        shortcut.weight[channel, skip][channel] = 1


def _init_norm(resnet: Any, features: Tensor, gains: Gains) -> None:
    norm, proj = resnet.norm2, resnet.time_emb_proj
    norm.weight.fill_(ANCHOR_DIVISOR)
    norm.bias.zero_()
    proj.weight.zero_()
    proj.bias.zero_()
    resnet.conv1.bias.zero_()
    resnet.conv2.weight.zero_()
    resnet.conv2.bias.zero_()
    groups = _groups(norm)
    for group, squares in zip(groups, gains.squares, strict=True):
        row = _fit(features, _levels(squares, groups[0].stop))
        resnet.conv1.weight[group.stop - 2 : group.stop] = 0
        for channel, sign in ((group.stop - 2, 1), (group.stop - 1, -1)):
            proj.weight[channel, gains.channels], proj.bias[channel] = sign * row[:-1], sign * row[-1]


def _levels(squares: Tensor, size: int) -> Tensor:
    """Anchor values for groups of `size` channels whose norm is to divide by ANCHOR_DIVISOR / sqrt(squares).

    The other channels are of unit variance.
    """
    return ((size * ANCHOR_DIVISOR**2 / squares - (size - 2)) / 2).sqrt()


def _features(unet: Any, timesteps: Tensor) -> Tensor:
    """The time embedding as residual blocks receive it: [timesteps, width]."""
    return torch.as_tensor(F.silu(unet.time_embedding(unet.time_proj(timesteps))))


def _fit(features: Tensor, wanted: Tensor) -> Tensor:
    """Weights and, last, the bias that map `features` [n, width] to `wanted` [n] with the least relative error."""
    columns = torch.cat((features, torch.ones(len(features), 1)), dim=1).double() / wanted.double()[:, None]
    gram = columns.T @ columns + _RIDGE * (len(columns) / 1000) * torch.eye(columns.shape[1], dtype=torch.float64)
    return torch.as_tensor(torch.linalg.solve(gram, columns.sum(dim=0)).float())


def _init_conv_out(norm: nn.GroupNorm, conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    size = norm.num_channels // norm.num_groups
    norm.weight[:size] = ANCHOR_DIVISOR
    conv.bias.zero_()
    conv.weight.zero_()
    # The norm's divisor for noisy latents of unit variance.
    scale = math.sqrt((2 * _LATENTS + size * ANCHOR_DIVISOR**2) / size) / ANCHOR_DIVISOR
    for channel in range(_LATENTS):
        conv.weight[channel, channel, 1, 1] = scale
        conv.weight[channel, channel + _LATENTS, 1, 1] = -scale
