"""Freezing parts of parameters, and bounding the norms of the rest, during training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def freeze_output_channels(layer: nn.Conv2d, *rows: slice) -> None:
    """Zero the gradients of these output channels of `layer`; weight decay must be off."""
    for parameter in layer.parameters():
        freeze(parameter, *rows)


def freeze(parameter: nn.Parameter, *parts: Any) -> None:
    """Zero the gradients of these parts of a parameter, given as indices; weight decay must be off."""
    trainable = torch.ones_like(parameter)
    for part in parts:
        trainable[part] = 0

    def mask(gradient: Tensor) -> Tensor:
        return gradient * trainable

    parameter.register_hook(mask)  # type: ignore[no-untyped-call]


def clip_row_norms(network: nn.Module, excluded: nn.Module | None = None) -> None:
    """Clip the norm of every output row to 1 in all trainable layers except `excluded`, in place.

    The norms that follow hide growing weights between a U-Net's levels, until the residual stream dwarfs what residual
    blocks and attention add to it.
    """
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.requires_grad and layer is not excluded:
                rows = layer.weight.flatten(1)
                rows.mul_(rows.norm(dim=1, keepdim=True).clamp(min=1).reciprocal())
