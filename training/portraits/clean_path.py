"""Pretraining of the channels that the noisy latents do not reach: the mean of all pictures of one face and prompt.

These channels form a small network of their own within the UNet, from the positions and the painting to the prediction.
Here they are evaluated alone, in a fraction of the UNet's time, on views of its own weights.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.demo.face_code import CHROMA, LUMA
from models.runtime.unet import residual_blocks
from training.networks.positions import ramps
from training.portraits.painter import (
    BOX,
    CLEAN,
    CLEAN_LAST,
    FINE,
    FINE_PIN,
    HIDDEN,
    PAINTED,
    PITCH,
    SCALES,
    dome,
)

_WIDTH: Final = CLEAN.stop
_LATENTS: Final = 4


def predict_clean(unet: Any, shift: Tensor, luma: Tensor, chroma: Tensor, size: tuple[int, int]) -> Tensor:
    """What the clean channels add to the predicted noise, [n, 4, h, w]: their gain times minus the picture's mean.

    `shift` as for `models.runtime.unet.evaluate`; `luma` and `chroma` are the grids times the amplitude with which a
    face style paints; `size` (width, height) in px.
    """
    rows, columns = (-(-side // 16) for side in size[::-1])
    first, second = unet.up_blocks[3].resnets
    third, last = unet.up_blocks[4].resnets
    shifts = dict(
        zip(
            residual_blocks(unet),
            torch.split(shift[:, :, None, None], [block.out_channels for block in residual_blocks(unet)], 1),
            strict=True,
        )
    )
    left, right = _painted(luma, chroma, rows, columns)
    x = _positions(rows, columns).expand(len(shift), -1, -1, -1)
    x = _block(first, x, shifts[first], (1, HIDDEN, 3, _WIDTH)) + left
    x = _block(second, x, shifts[second], (2, HIDDEN, 3, _WIDTH)) + right
    upsampler = unet.up_blocks[3].upsamplers[0].conv
    x = F.interpolate(x, size=(size[1] // 8, size[0] // 8), mode="nearest")
    x = F.conv2d(x, upsampler.weight[:_WIDTH, :_WIDTH], upsampler.bias[:_WIDTH], padding=1)
    x = _block(third, x, shifts[third], (2, CLEAN_LAST, 4, CLEAN_LAST))
    x = _hidden(last, x, shifts[last], (2, CLEAN_LAST, 4))
    # conv_out takes half the difference of two predictions of opposite sign.
    u = F.conv2d(x, last.conv2.weight[: 2 * _LATENTS, :CLEAN_LAST], padding=1)
    return (u[:, :_LATENTS] - u[:, _LATENTS:]) / 2


def _block(block: Any, x: Tensor, shift: Tensor, widths: tuple[int, int, int, int]) -> Tensor:
    """A residual block's first channels: norm groups and channels within, norm groups and channels behind."""
    groups, hidden, inner, out = widths
    h = _hidden(block, x, shift, (groups, hidden, inner))
    h = F.conv2d(h, block.conv2.weight[:out, :hidden], block.conv2.bias[:out], padding=1)
    return h + F.conv2d(x, block.conv_shortcut.weight[:out, : x.shape[1]], block.conv_shortcut.bias[:out])


def _hidden(block: Any, x: Tensor, shift: Tensor, widths: tuple[int, int, int]) -> Tensor:
    groups, hidden, inner = widths
    h = F.silu(_normed(block.norm1, x, groups))
    h = F.conv2d(h, block.conv1.weight[:hidden, : x.shape[1]], block.conv1.bias[:hidden], padding=1)
    return F.silu(_normed(block.norm2, h + shift[:, :hidden], inner))


def _normed(norm: nn.GroupNorm, x: Tensor, groups: int) -> Tensor:
    width = x.shape[1]
    assert width // groups == norm.num_channels // norm.num_groups
    return F.group_norm(x, groups, norm.weight[:width], norm.bias[:width], norm.eps)


def _positions(rows: int, columns: int) -> Tensor:
    """What the last upsampler in front of the painting level writes, [1, channels, rows, columns]."""
    xy = ramps(rows, columns)[0, :2]
    signed = [sign * scale * axis for scale in SCALES for axis in xy for sign in (1, -1)]
    pins = [torch.full_like(xy[0], sign * FINE_PIN) for _ in range((FINE - len(signed)) // 2) for sign in (1, -1)]
    return torch.stack([*signed, *pins])[None]


def _painted(luma: Tensor, chroma: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """What the first transformer paints and what the second does, [n, channels, rows, columns] each."""
    x, y = ramps(rows, columns)[0, :2]
    grid = torch.stack(
        [2 * (at - low) / (high - low) - 1 for at, low, high in ((x, BOX[0], BOX[2]), (y, BOX[1], BOX[3]))], -1
    )
    halves = []
    for number in (0, 1):
        kept_luma, kept_chroma = torch.zeros_like(luma), torch.zeros_like(chroma)
        part = slice(number * LUMA[1] // 2, (number + 1) * LUMA[1] // 2)
        kept_luma[..., part] = luma[..., part]
        for group in (0, 1):
            first = group * CHROMA[1] // 2 + 4 * number
            kept_chroma[..., first : first + 4] = chroma[..., first : first + 4]
        found = luma.new_zeros(len(luma), _WIDTH, rows, columns)
        for channels, source in ((slice(0, 1), kept_luma[:, None]), (slice(1, 3), kept_chroma)):
            at = slice(PAINTED.start + channels.start, PAINTED.start + channels.stop)
            # Beyond the box nothing is painted.
            found[:, at] = 2 * F.grid_sample(source, grid.expand(len(luma), -1, -1, -1), align_corners=False)
        if number == 0:
            found[:, PAINTED.stop - 1] = dome(x / PITCH, y / PITCH)
        halves.append(found)
    return halves[0], halves[1]
