"""Reading state dicts, with errors an operator can act on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from models.errors import WeightsError
from models.runtime.tensor_file import open_tensors
from models.weights.file_errors import file_errors

StateDict = Mapping[str, Tensor]
_COUNTER: Final = ".num_batches_tracked"
"""Batch norms of old files lack it, and torch does without."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, which `fill` and `place` read; raises `WeightFileError`."""
    with file_errors(path):
        return open_tensors(path)


def size_in(state: StateDict, dtype: torch.dtype, prefix: str = "") -> int:
    """Bytes of the tensors whose key begins with `prefix`, the floating-point ones in `dtype`."""
    return sum(
        tensor.numel() * (dtype if tensor.is_floating_point() else tensor.dtype).itemsize
        for key, tensor in state.items()
        if key.startswith(prefix)
    )


def read_config(path: Path) -> dict[str, Any]:
    """Read a network's sizes, which are one JSON object; raises `WeightFileError`."""
    with file_errors(path):
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise WeightsError("it is no configuration: a JSON object is due.")
        return config


def under(state: StateDict, prefix: str) -> dict[str, Tensor]:
    """The entries of `state` whose key begins with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def shape_of(state: StateDict, key: str) -> torch.Size:
    """Shape of one tensor; raises `WeightsError` if there is none of that name."""
    try:
        return state[key].shape
    except KeyError:
        raise WeightsError(f"it has no tensor {key}.") from None


def chosen(state: StateDict, like: StateDict) -> dict[str, Tensor]:
    """Those tensors of `state` that `like` has, in its order; files hold more, such as tables of positions.

    Raises `WeightsError` unless they are all there, of the same shapes, and floating-point where those of `like` are.
    """
    require(state, like)
    found = {name: state[name] for name in like}
    check_alike(found, like)
    return found


def check_alike(state: StateDict, like: StateDict) -> None:
    """Raise `WeightsError` unless both have tensors of the same names, shapes, and kinds of numbers."""
    require(state, [name for name in like if not name.endswith(_COUNTER)])
    if surplus := [name for name in state if name not in like]:
        raise WeightsError(f"it has tensors that the network lacks: {_in_short(surplus)}.")
    for name, tensor in state.items():
        if tensor.shape != like[name].shape:
            raise WeightsError(f"{name} is {list(tensor.shape)} where {list(like[name].shape)} is due.")
    check_numbers(state, like)


def require(state: StateDict, names: Iterable[str]) -> None:
    """Raise `WeightsError` unless there is a tensor of each of the names."""
    if missing := [name for name in names if name not in state]:
        raise WeightsError(f"it lacks tensors: {_in_short(missing)}.")


def check_numbers(state: StateDict, like: StateDict) -> None:
    """Raise `WeightsError` unless the same tensors of `state` and `like` are floating-point."""
    for name, tensor in state.items():
        if tensor.is_floating_point() != like[name].is_floating_point():
            due = "floating-point numbers" if like[name].is_floating_point() else "integers"
            raise WeightsError(f"{name} holds {str(tensor.dtype).removeprefix('torch.')} where {due} are due.")


def _in_short(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
