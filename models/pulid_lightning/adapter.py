"""The PuLID adapter file: an identity encoder, and key and value weights for every cross-attention of the UNet.

Source: PuLID specification section 4, weight files. All public layouts are read: `image_proj.*` with
`ip_adapter.{i}.to_k_ip.weight`, and `id_adapter.*` with `id_adapter_attn_layers.{i}.id_to_k.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from models.errors import WeightsError
from models.runtime.load import place
from models.runtime.state_dicts import StateDict, read_state_dict, under

_ENCODER_PREFIXES: Final = ("image_proj.", "id_adapter.")
_LAYER: Final = re.compile(r"(?:ip_adapter|id_adapter_attn_layers)\.(\d+)\.(?:to|id_to)_([kv])(?:_ip)?\.weight")


@dataclass(frozen=True)
class Projection:
    """How one cross-attention projects ID tokens: `key` and `value` are [inner width, context width]."""

    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class Adapter:
    """An adapter file's content.

    `encoder`: state dict of the identity encoder. `projections`: by the position of the attention's processor in
    `unet.attn_processors`.
    """

    encoder: dict[str, Tensor]
    projections: dict[int, Projection]


def read_adapter(path: Path) -> Adapter:
    """Read an adapter in any layout; raises `WeightsError`."""
    return parse_adapter(read_state_dict(path))


def parse_adapter(state: StateDict) -> Adapter:
    """Sort an adapter's tensors; raises `WeightsError` if there is no encoder or no layer."""
    encoder = next((found for prefix in _ENCODER_PREFIXES if (found := under(state, prefix))), {})
    projections = _projections(state)
    if not encoder or not projections:
        raise WeightsError("it is no PuLID adapter.")
    return Adapter(encoder=encoder, projections=projections)


def place_projections(
    projections: Mapping[int, Projection], device: torch.device, dtype: torch.dtype
) -> dict[int, Projection]:
    """The projections on `device`, in `dtype`; those of a file are read."""
    keys = place({str(layer): projection.key for layer, projection in projections.items()}, device, dtype)
    values = place({str(layer): projection.value for layer, projection in projections.items()}, device, dtype)
    return {layer: Projection(keys[str(layer)], values[str(layer)]) for layer in projections}


def _projections(state: StateDict) -> dict[int, Projection]:
    weights = {(int(match[1]), match[2]): value for name, value in state.items() if (match := _LAYER.fullmatch(name))}
    if wrong := [name for name in state if _LAYER.fullmatch(name) and not state[name].is_floating_point()]:
        raise WeightsError(f"{wrong[0]} is not floating-point.")
    layers = sorted({layer for layer, _ in weights})
    try:
        return {layer: Projection(weights[layer, "k"], weights[layer, "v"]) for layer in layers}
    except KeyError as error:
        raise WeightsError(f"it has only one of key and value in layer {error.args[0][0]}.") from None
