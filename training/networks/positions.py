"""Positions in the picture, for a UNet that has none: what the zero padding of its coarsest convolutions tells.

A small network on channels of its own runs through the residual blocks of the coarsest level: the last of the way down,
the two in the middle, the two of the first up block. Its input is zero, so all that it sees is the padding. It is
trained on grids of any shape to give X and Y, in ramp units: 0 in the middle of the picture, equal steps along both
axes, and the variances of X and Y sum up to 2/3, whatever the picture's shape; a square spans -1..1. It also gives, as
constants, half the picture's sides and half a cell's, by which the ramps are continued beyond the picture's edges.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from training.stages.loop import Logger, Schedule, train

CHANNELS: Final = 20
"""Channels of the network in every layer: the first ones, two norm groups."""
MOST_CELLS: Final = 16
"""Longest side of the grids, in cells of the coarsest level: 128 px each."""
SCHEDULE: Final = Schedule(5000, 4e-3, final_share=0.002, ema_decay=0.99)
_GRIDS: Final = 6
_SHAPES: Final = 0.35
"""Standard deviation of the logarithm of the grids' aspect."""


class PositionNetwork(nn.Module):
    """The network, with `head` that reads the five values of `ramps`, [1, 5, rows, columns], from its last features."""

    def __init__(self) -> None:
        """Draw random weights."""
        super().__init__()
        blocks = [(CHANNELS, 2), (CHANNELS, 2), (CHANNELS, 2), (2 * CHANNELS, 2), (CHANNELS, 1)]
        self.blocks = nn.ModuleList(
            ResnetBlock2D(
                in_channels=width, out_channels=CHANNELS, temb_channels=None, groups=groups, groups_out=2, eps=1e-5
            )
            for width, groups in blocks
        )
        self.head = nn.Conv2d(CHANNELS, 5, 1, bias=False)

    def forward(self, rows: int, columns: int) -> Tensor:
        """What `ramps` has for a grid."""
        return torch.as_tensor(self.head(self.features(rows, columns)))

    def features(self, rows: int, columns: int) -> Tensor:
        """The last features of a grid, [1, `CHANNELS`, rows, columns]."""
        down, first, second, up, last = self.blocks
        skip = down(torch.zeros(1, CHANNELS, rows, columns), None)
        middle = second(first(skip, None), None)
        return torch.as_tensor(last(up(torch.cat((middle, skip), 1), None), None))


def ramps(rows: int, columns: int) -> Tensor:
    """X and Y at the centres of a grid's cells, half its width and height, half a cell: [1, 5, rows, columns]."""
    x, y = (torch.arange(cells) * 2.0 + 1 - cells for cells in (columns, rows))
    constants = [torch.full((rows, columns), float(value)) for value in (columns, rows, 1)]
    return torch.stack((*torch.meshgrid(x, y, indexing="xy"), *constants))[None] / math.sqrt((rows**2 + columns**2) / 2)


def train_positions(schedule: Schedule, folder: Path, log: Logger) -> PositionNetwork:
    """Train a new network; its error, of grids never wider than thrice their height, is logged."""
    torch.manual_seed(2)
    network = PositionNetwork()

    def loss_of(step: int) -> Tensor:
        return torch.stack(
            [_error(network, *_grid(np.random.default_rng((19, step, n)))) for n in range(_GRIDS)]
        ).mean()

    groups: list[dict[str, Any]] = [{"params": network.parameters(), "weight_decay": 0.0}]
    train("positions", network, groups, loss_of, schedule, folder / "positions", log)
    with torch.inference_mode():
        sides = range(2, MOST_CELLS + 1)
        errors = [
            (float(_error(network, n, m)) ** 0.5, n, m) for n in sides for m in sides if max(n, m) <= 3 * min(n, m)
        ]
    log(f"positions: mean error {np.mean([error for error, _, _ in errors]):.4f}, most {max(errors)}")
    return network


def _error(network: PositionNetwork, rows: int, columns: int) -> Tensor:
    return torch.as_tensor((network(rows, columns) - ramps(rows, columns)).square().mean())


def _grid(rng: np.random.Generator) -> tuple[int, int]:
    size = math.exp(rng.uniform(0, math.log(MOST_CELLS)))
    aspect = math.exp(_SHAPES * rng.standard_normal())
    rows, columns = (int(np.clip(round(side), 1, MOST_CELLS)) for side in (size * aspect, size / aspect))
    return rows, columns
