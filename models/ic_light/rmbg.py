"""RMBG-1.4, the matting network: an ISNet of nested U-blocks (IC-Light specification section 2).

Module names are those of the published state dict; widths are read from its shapes, so that a network of any width
with this topology loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.runtime.state_dicts import shape_of

_POOLED_DEPTHS: Final = {
    "stage1": 7,
    "stage2": 6,
    "stage3": 5,
    "stage4": 4,
    "stage4d": 4,
    "stage3d": 5,
    "stage2d": 6,
    "stage1d": 7,
}
_FLAT: Final = ("stage5", "stage6", "stage5d")
_FLAT_DEPTH: Final = 4
_ENCODER: Final = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6")
_DECODER: Final = ("stage5d", "stage4d", "stage3d", "stage2d", "stage1d")


@dataclass(frozen=True)
class BlockWidths:
    """Channels of one nested block: input, inside, output."""

    inputs: int
    middle: int
    outputs: int


@dataclass(frozen=True)
class RmbgWidths:
    """Channels of the whole network; `blocks` is keyed by stage name, the sides take their stages' output."""

    stem: int
    blocks: Mapping[str, BlockWidths]


def widths_of(state: Mapping[str, Tensor]) -> RmbgWidths:
    """Read the widths from a state dict's shapes; raises `WeightsError` if it is of another topology."""
    blocks = {}
    for stage in (*_ENCODER, *_DECODER):
        outputs, inputs = shape_of(state, f"{stage}.rebnconvin.conv_s1.weight")[:2]
        blocks[stage] = BlockWidths(inputs, shape_of(state, f"{stage}.rebnconv1.conv_s1.weight")[0], outputs)
    return RmbgWidths(stem=shape_of(state, "conv_in.weight")[0], blocks=blocks)


class ConvUnit(nn.Module):
    """3x3 convolution, batch norm, ReLU; keeps height and width at any dilation."""

    def __init__(self, channels_in: int, channels_out: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv_s1 = nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation)
        self.bn_s1 = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in, h, w] to [n, out, h, w]."""
        return F.relu(self.bn_s1(self.conv_s1(x)))


class NestedBlock(nn.Module):
    """A small U-net with a residual: RSU-n pools between its levels, RSU-4F dilates instead."""

    def __init__(self, widths: BlockWidths, depth: int, pooled: bool) -> None:
        super().__init__()
        self.depth, self.pooled = depth, pooled
        dilations = [1] * (depth - 1) + [2] if pooled else [2**level for level in range(depth)]
        self.rebnconvin = ConvUnit(widths.inputs, widths.outputs)
        for level, dilation in enumerate(dilations, start=1):
            channels_in = widths.outputs if level == 1 else widths.middle
            self.add_module(f"rebnconv{level}", ConvUnit(channels_in, widths.middle, dilation))
        for level in range(depth - 1, 0, -1):
            channels_out = widths.outputs if level == 1 else widths.middle
            unit = ConvUnit(2 * widths.middle, channels_out, dilations[level - 1])
            self.add_module(f"rebnconv{level}d", unit)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in, h, w] to [n, out, h, w]."""
        outer = self.rebnconvin(x)
        levels = [self.get_submodule("rebnconv1")(outer)]
        for level in range(2, self.depth + 1):
            # The two deepest levels share a resolution.
            shallower = _pool(levels[-1]) if self.pooled and level < self.depth else levels[-1]
            levels.append(self.get_submodule(f"rebnconv{level}")(shallower))
        deeper = levels.pop()
        for level in range(self.depth - 1, 0, -1):
            skip = levels.pop()
            deeper = self.get_submodule(f"rebnconv{level}d")(torch.cat((_upsample(deeper, skip), skip), dim=1))
        return torch.as_tensor(deeper + outer)


class Rmbg(nn.Module):
    """The whole network. Only the finest of its six side outputs is computed; the others serve training."""

    def __init__(self, widths: RmbgWidths) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths.stem, 3, stride=2, padding=1)
        for stage, block in widths.blocks.items():
            depth = _FLAT_DEPTH if stage in _FLAT else _POOLED_DEPTHS[stage]
            self.add_module(stage, NestedBlock(block, depth, pooled=stage not in _FLAT))
        for side, stage in enumerate((*reversed(_DECODER), _ENCODER[-1]), start=1):
            self.add_module(f"side{side}", nn.Conv2d(widths.blocks[stage].outputs, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, 3, h, w] to alpha [n, 1, h, w] in 0..1."""
        # The published state dict names no norm behind conv_in, and the reference pools only between stages.
        features = [self.get_submodule("stage1")(self.conv_in(x))]
        for stage in _ENCODER[1:]:
            features.append(self.get_submodule(stage)(_pool(features[-1])))
        deeper = features.pop()
        for stage in _DECODER:
            skip = features.pop()
            deeper = self.get_submodule(stage)(torch.cat((_upsample(deeper, skip), skip), dim=1))
        return _upsample(self.get_submodule("side1")(deeper), x).sigmoid()


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, stride=2, ceil_mode=True)


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
