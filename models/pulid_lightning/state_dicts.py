"""Reading state dicts, with errors an operator can act on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.errors import WeightsError

StateDict = Mapping[str, Tensor]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Map a .safetensors file into memory: its tensors are read when they are used. Raises `WeightsError`."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"The weight file {path} cannot be read: {error}") from error


def under(state: StateDict, prefix: str) -> dict[str, Tensor]:
    """The entries of `state` whose key begins with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def shape_of(state: StateDict, key: str) -> torch.Size:
    """Shape of one tensor; raises `WeightsError` if there is none of that name."""
    try:
        return state[key].shape
    except KeyError:
        raise WeightsError(f"The weights have no tensor {key!r}.") from None
