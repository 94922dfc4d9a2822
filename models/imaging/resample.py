"""Lanczos resampling of uint8 images on any device, bit-exact with Pillow before release 13.

Weights are whole numbers of 1/2^22, columns are scaled before rows, and levels are rounded to 8 bits after each of the
two. (Pillow 13 begins with the rows where that is less work: a level more or less in tall pictures.) Products and sums
of such numbers are exact in float64, so neither the device nor the order of additions counts. A block of outputs that
lie side by side shares one window of inputs: that makes it a small matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

SUPPORT: Final = 3
"""Where the kernel ends, in px of the coarser of the two pictures."""
_BITS: Final = 22
_BLOCK: Final = 16
_ELEMENTS: Final = {"cpu": 2**18}
_ELEMENTS_ELSEWHERE: Final = 2**22


@dataclass(frozen=True)
class Axis:
    """One side of a picture, in px: `source` from `offset` on become `target`, of which `first` to `last` - 1 are kept.

    What is outside of the source does not count, even if the picture has it.
    """

    source: int
    target: int
    first: int
    last: int
    offset: int = 0

    @property
    def scale(self) -> float:
        """Source px to a target px."""
        return self.source / self.target

    @property
    def support(self) -> float:
        """How far a target px reaches to either side, in source px."""
        return SUPPORT * max(self.scale, 1.0)

    @property
    def reach(self) -> tuple[int, int]:
        """The first px of the picture that counts for those kept, and the one behind the last."""
        begin = int((self.first + 0.5) * self.scale - self.support + 0.5)
        end = int((self.last - 0.5) * self.scale + self.support + 0.5)
        return self.offset + max(begin, 0), self.offset + min(end, self.source)


class Crop(NamedTuple):
    """A part of a scaled picture."""

    columns: Axis
    rows: Axis


class _Taps(NamedTuple):
    """How outputs are made of inputs: `positions` [blocks, window] and `weights` [blocks, 16, window], whole numbers.

    `kept` of the outputs are meant; those that fill the last block are not.
    """

    positions: Tensor
    weights: Tensor
    kept: int


def resample(picture: Tensor, width: int, height: int) -> Tensor:
    """Stretch a picture [h, w, channels] of 8 bits to `width` x `height` px: [height, width, channels]."""
    own_height, own_width = picture.shape[:2]
    whole = Crop(Axis(own_width, width, 0, width), Axis(own_height, height, 0, height))
    return resample_strips(strips_of(picture), [whole])[0]


def resample_strips(strips: Iterable[Tensor], crops: Sequence[Crop], left: int = 0, top: int = 0) -> list[Tensor]:
    """Scale and cut a picture that comes in `strips` [rows, width, channels] of 8 bits, from above to below.

    The strips begin at px (`left`, `top`) of the picture that the crops mean, and go as far as these reach.
    """
    taps: list[_Taps] = []
    scaled: list[list[Tensor]] = [[] for _ in crops]
    for strip in strips:
        lines = strip.permute(2, 1, 0).contiguous()
        taps = taps or [_taps(crop.columns, left, strip.device) for crop in crops]
        for parts, columns in zip(scaled, taps, strict=True):
            parts.append(_scale(lines, columns))
    return [_scale_rows(torch.cat(parts, -1), crop.rows, top) for parts, crop in zip(scaled, crops, strict=True)]


def strips_of(picture: Tensor) -> tuple[Tensor, ...]:
    """A picture [height, width, channels] in strips of as many rows as are worked on at a time."""
    return torch.split(picture, max(1, _elements(picture.device) // picture[0].numel()))


def lanczos(x: Tensor) -> Tensor:
    """The kernel at distances `x`: sinc(x) sinc(x / 3) within -3..3, else 0."""
    return torch.where(x.abs() < SUPPORT, torch.sinc(x) * torch.sinc(x / SUPPORT), 0.0)


def _scale_rows(lines: Tensor, axis: Axis, origin: int) -> Tensor:
    """From [channels, columns, rows] to [rows, columns, channels]."""
    rows = _scale(lines.transpose(1, 2), _taps(axis, origin, lines.device))
    return rows.permute(1, 2, 0).contiguous()


def _scale(lines: Tensor, taps: _Taps) -> Tensor:
    """From [channels, inputs, n] to [channels, outputs, n], 8 bits each."""
    # A strip's windows overlap by less than half: columns come in one part, rows, which are not cut yet, in many.
    step = max(1, 2 * _elements(lines.device) // (len(lines) * taps.positions.numel()))
    return torch.cat([_scale_part(part, taps) for part in torch.split(lines, step, -1)], -1)


def _scale_part(lines: Tensor, taps: _Taps) -> Tensor:
    chosen = lines.contiguous().index_select(1, taps.positions.flatten())
    windows = chosen.to(torch.float64).view(len(lines), *taps.positions.shape, -1)
    sums = torch.matmul(taps.weights, windows).flatten(1, 2)[:, : taps.kept]
    # Casting truncates: half a level is added, so that it rounds.
    return sums.mul_(2.0**-_BITS).add_(0.5).clamp_(0, 255).to(torch.uint8)


def _taps(axis: Axis, origin: int, device: torch.device) -> _Taps:
    """Windows and weights of an axis, for inputs that begin at px `origin` of the picture."""
    centers = _blocks(axis, device).add_(0.5).mul_(axis.scale)
    begins = (centers - axis.support + 0.5).clamp_(min=0).floor_()
    ends = (centers + axis.support + 0.5).clamp_(max=axis.source).floor_()
    width = min(math.ceil((_BLOCK - 1) * axis.scale + 2 * axis.support) + 1, axis.source)
    windows = begins[:, :1] + torch.arange(width, device=device)
    distances = (windows[:, None] - centers[..., None] + 0.5).mul_(1 / max(axis.scale, 1.0))
    outside = (windows[:, None] < begins[..., None]) | (windows[:, None] >= ends[..., None])
    weights = lanczos(distances).masked_fill_(outside, 0)
    first, last = axis.reach
    positions = (windows + axis.offset).clamp_(first, last - 1).sub_(origin).long()
    return _Taps(positions, _whole(weights / weights.sum(-1, keepdim=True)), axis.last - axis.first)


def _blocks(axis: Axis, device: torch.device) -> Tensor:
    """The outputs that are kept, in blocks: float64 [blocks, 16]; the last one is repeated until its block is full."""
    blocks = math.ceil((axis.last - axis.first) / _BLOCK)
    outputs = torch.arange(blocks * _BLOCK, device=device, dtype=torch.float64).add_(axis.first)
    return outputs.clamp_(max=axis.last - 1).view(blocks, _BLOCK)


def _whole(weights: Tensor) -> Tensor:
    """To whole numbers of 1 / 2^22; halves go away from 0."""
    scaled = weights * 2**_BITS
    return scaled.add_(scaled.sign().mul_(0.5)).trunc_()


def _elements(device: torch.device) -> int:
    """How many numbers are worked on at a time: what a CPU's cache holds, or enough to keep a GPU busy."""
    return _ELEMENTS.get(device.type, _ELEMENTS_ELSEWHERE)
