"""Where the denoiser starts: as the identity, with what it learns let through as much as a timestep needs.

The noise is what the sampler asks for, but at high noise it must follow the input to a few thousandths, or what is left
of it is no picture: random weights take long to learn that, and every step of training shakes it again. A network that
predicts velocities has no such trouble. In terms of the noise a velocity v is

    noise = noisy latents + sqrt(alpha) * u,    u = v - (1 - sqrt(1 - alpha)) / sqrt(alpha) * noisy latents,

where u is of unit scale at every timestep. So the noisy latents are copied past everything: conv_in writes them and
their negatives, the last shortcut hands them on, and conv_out takes their difference behind the activation. All that is
added comes out of the last residual block, whose activation is the valve: shifted by -1.28 a SiLU is flat and lets
nothing through, shifted upwards ever more. The shift of a timestep is one that its slope is in proportion to
sqrt(alpha). Channels of a constant and of the opposite shift keep the group norm before it from undoing that.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.demo_weights.training.calm import CALM, constants
from models.demo_weights.training.holding import hold, hold_rows

_LATENTS: Final = 4
_CONSTANTS: Final = slice(2 * _LATENTS, 2 * _LATENTS + 2)
_COPIES: Final = 2 * _LATENTS + 2
"""Channels of the path: the latents, their negatives and the constants."""
_VALVES: Final = 12
"""Channels in every group of the last norm that what is learned goes through; all but two others balance them."""
_SHIFTS: Final = torch.linspace(-4, 3, 1401)
_RIDGE: Final = 1e-4


def lay_velocity(unet: Any, alphas: Tensor) -> None:
    """Rewrite weights of a fresh UNet2DConditionModel in place; `alphas` [1000] is the signal's share of variance.

    Its first norm group must hold the whole path.
    """
    last = unet.up_blocks[-1].resnets[-1]
    with torch.no_grad():
        _lay_in(unet.conv_in, unet.conv_norm_out)
        _skip_constants(unet)
        _lay_shortcut(last, unet.conv_in.out_channels)
        _lay_valves(last, _features(unet, len(alphas)), alphas)
        _lay_out(unet.conv_norm_out, unet.conv_out)


def hold_velocity(unet: Any) -> None:
    """Keep the path and the valves from learning."""
    last = unet.up_blocks[-1].resnets[-1]
    laid = (last.norm2, last.time_emb_proj, last.conv_shortcut, last.conv2.bias)
    for module in (unet.time_embedding, unet.conv_norm_out, unet.conv_out, *laid):
        module.requires_grad_(False)
    size = last.norm2.num_channels // last.norm2.num_groups
    balances = [slice(at + _VALVES, at + size) for at in range(0, last.norm2.num_channels, size)]
    hold_rows(unet.conv_in, slice(0, _COPIES))
    hold_rows(last.conv1, *balances)
    # Nothing is read of the channels behind the path.
    hold(last.conv2.weight, slice(2 * _LATENTS, None), *((slice(None), part) for part in balances))


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


def _lay_valves(resnet: Any, features: Tensor, alphas: Tensor) -> None:
    norm, proj = resnet.norm2, resnet.time_emb_proj
    size = norm.num_channels // norm.num_groups
    balances = size - _VALVES - 2
    norm.weight.fill_(CALM)
    norm.bias.zero_()
    row = _fit(features, _shifts(alphas, size))
    for at in range(0, norm.num_channels, size):
        rest = slice(at + _VALVES, at + size)
        resnet.conv1.weight[rest] = 0
        resnet.conv1.bias[at : at + size] = 0
        resnet.conv1.bias[at + size - 2 : at + size] = constants(size)
        shares = torch.cat((torch.ones(_VALVES), torch.full((balances,), -_VALVES / balances), torch.zeros(2)))
        proj.weight[at : at + size] = shares[:, None] * row[:-1]
        proj.bias[at : at + size] = shares * row[-1]
        # Of every channel there is the negative: what both have in common, the shift itself, cancels.
        half = _VALVES // 2
        resnet.conv1.weight[at + half : at + _VALVES] = -resnet.conv1.weight[at : at + half]
    resnet.conv2.weight.zero_()
    resnet.conv2.bias.zero_()


def _shifts(alphas: Tensor, size: int) -> Tensor:
    """The shift before the norm, at every timestep, at which a valve's slope is in proportion to sqrt(alpha)."""
    balances = size - _VALVES - 2
    variance = (_VALVES + _VALVES**2 / balances) * _SHIFTS.square() + size * CALM**2
    scale = CALM / (variance / size).sqrt()
    slopes = scale * _slope(scale * _SHIFTS)
    # Between where it is flat and where it is steepest the slope rises all the way.
    rising = slice(int((slopes.abs() + (_SHIFTS > 0)).argmin()), int(slopes.argmax()) + 1)
    wanted = alphas.sqrt() * slopes.max()
    nearest = torch.searchsorted(slopes[rising].contiguous(), wanted).clamp(max=rising.stop - rising.start - 1)
    return _SHIFTS[rising][nearest]


def _slope(x: Tensor) -> Tensor:
    """The derivative of SiLU."""
    gate = x.sigmoid()
    return gate * (1 + x * (1 - gate))


def _features(unet: Any, timesteps: int) -> Tensor:
    """What a residual block sees of every timestep: [timesteps, width]."""
    return torch.as_tensor(F.silu(unet.time_embedding(unet.time_proj(torch.arange(timesteps)))))


def _fit(features: Tensor, wanted: Tensor) -> Tensor:
    """Weights and, last, the bias that make `wanted` [n] of `features` [n, width]."""
    columns = torch.cat((features, torch.ones(len(features), 1)), dim=1).double()
    gram = columns.T @ columns + _RIDGE * torch.eye(columns.shape[1], dtype=torch.float64)
    return torch.as_tensor(torch.linalg.solve(gram, columns.T @ wanted.double()).float())


def _lay_out(norm: nn.GroupNorm, conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    norm.weight[: norm.num_channels // norm.num_groups] = CALM
    conv.bias.zero_()
    conv.weight.zero_()
    # What the norm divides by where the noisy latents are of unit variance.
    size = norm.num_channels // norm.num_groups
    scale = math.sqrt((2 * _LATENTS + size * CALM**2) / size) / CALM
    for channel in range(_LATENTS):
        conv.weight[channel, channel, 1, 1] = scale
        conv.weight[channel, channel + _LATENTS, 1, 1] = -scale
