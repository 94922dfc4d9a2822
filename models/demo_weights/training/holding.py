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
