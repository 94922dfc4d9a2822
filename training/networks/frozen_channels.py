"""Keeping weights that were laid by hand as they are while the others learn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def hold_rows(layer: nn.Conv2d, *rows: slice) -> None:
    """Let nothing change what `layer` writes into these channels; weight decay must be off."""
    for parameter in layer.parameters():
        hold(parameter, *rows)


def hold(parameter: nn.Parameter, *parts: Any) -> None:
    """Let nothing change these parts, given as indices; weight decay must be off."""
    free = torch.ones_like(parameter)
    for part in parts:
        free[part] = 0

    def without(gradient: Tensor) -> Tensor:
        return gradient * free

    parameter.register_hook(without)  # type: ignore[no-untyped-call]


def bound_rows(network: nn.Module, but: nn.Module | None = None) -> None:
    """Scale every output's weights down to a norm of 1 where they exceed it, in all layers but one, in place.

    Nothing else keeps the layers between a U-Net's levels from growing: norms behind them hide it, until what residual
    blocks and attention add drowns in the stream that they add it to.
    """
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.requires_grad and layer is not but:
                rows = layer.weight.flatten(1)
                rows.mul_(rows.norm(dim=1, keepdim=True).clamp(min=1).reciprocal())
