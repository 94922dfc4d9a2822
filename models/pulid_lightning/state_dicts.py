"""Reading state dicts and fitting them into networks, with errors an operator can act on."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.errors import WeightsError

StateDict = Mapping[str, Tensor]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors file, or a torch pickle of tensors only, on the CPU; raises `WeightsError`."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsError(f"The weight file {path} cannot be read: {error}") from error
    return state


def under(state: StateDict, prefix: str) -> dict[str, Tensor]:
    """The entries of `state` whose key begins with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def shape_of(state: StateDict, key: str) -> torch.Size:
    """Shape of one tensor; raises `WeightsError` if there is none of that name."""
    try:
        return state[key].shape
    except KeyError:
        raise WeightsError(f"The weights have no tensor {key!r}.") from None


def load_strict(module: nn.Module, state: StateDict, what: str) -> None:
    """Copy `state` into `module`; raises `WeightsError` unless keys and shapes are exactly those of `module`."""
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise WeightsError(f"The weights of the {what} do not fit: {error}") from error
    module.eval().requires_grad_(False)
