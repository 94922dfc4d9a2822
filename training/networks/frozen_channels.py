"""Freezing parts of parameters, and bounding the norms of the rest, during training."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn


def freeze_output_channels(layer: nn.Conv2d, *rows: slice) -> None:
    """Zero the gradients of these output channels of `layer`; weight decay must be off."""
    for parameter in layer.parameters():
        freeze(parameter, *rows)


def freeze(parameter: Tensor, *parts: Any) -> None:
    """Zero the gradients of these parts of a parameter, given as indices; weight decay must be off."""
    trainable = torch.ones_like(parameter)
    for part in parts:
        trainable[part] = 0

    def mask(gradient: Tensor) -> Tensor:
        return gradient * trainable

    parameter.register_hook(mask)  # type: ignore[no-untyped-call]


def clip_row_norms(
    network: nn.Module, excluded: nn.Module | None = None, frozen: Mapping[Tensor, Tensor] = MappingProxyType({})
) -> None:
    """Clip the norm of every output row to 1 in all trainable layers except `excluded`, in place.

    `frozen` marks parts of weights; rows that are frozen as a whole keep their norms.

    The norms that follow hide growing weights between a U-Net's levels, until the residual stream dwarfs what residual
    blocks and attention add to it.
    """
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.requires_grad and layer is not excluded:
                rows = layer.weight.flatten(1)
                scale = rows.norm(dim=1, keepdim=True).clamp(min=1).reciprocal()
                if (part := frozen.get(layer.weight)) is not None:
                    scale[part.flatten(1).all(1)] = 1
                rows.mul_(scale)


class Reserved:
    """The frozen parts of a network's parameters: their gradients are zeroed, and clipping leaves them out."""

    def __init__(self) -> None:
        """Nothing is frozen yet."""
        self._parts: dict[Tensor, Tensor] = {}

    def set(self, parameter: Tensor, index: Any, values: Tensor | float) -> None:
        """Write these values into a part of the parameter, and freeze it."""
        with torch.no_grad():
            parameter[index] = values
        self.freeze(parameter, index)

    def freeze(self, parameter: Tensor, index: Any = ...) -> None:
        """Freeze a part of the parameter, as it is."""
        if parameter not in self._parts:
            self._parts[parameter] = torch.zeros_like(parameter, dtype=torch.bool)
        self._parts[parameter][index] = True

    def rows(self, layer: nn.Linear | nn.Conv2d, rows: slice) -> None:
        """Zero output rows of a layer, and freeze them."""
        self.set(layer.weight, rows, 0.0)
        if layer.bias is not None:
            self.set(layer.bias, rows, 0.0)

    def unread(self, layer: nn.Linear | nn.Conv2d, columns: slice) -> None:
        """Zero what a layer reads of these input channels, and freeze that."""
        self.set(layer.weight, (slice(None), columns), 0.0)

    def round_to_half(self) -> None:
        """Round all frozen values as the files will have them, so that training sees what they hold."""
        with torch.no_grad():
            for parameter, part in self._parts.items():
                parameter[part] = parameter[part].half().to(parameter)

    def mask_gradients(self) -> None:
        """From now on no gradient reaches a frozen part; weight decay must be off."""
        for parameter, part in self._parts.items():
            freeze(parameter, part)

    def clip_row_norms(self, network: nn.Module, excluded: nn.Module) -> None:
        """As the function of that name; rows that are frozen keep their norms."""
        clip_row_norms(network, excluded, self._parts)
