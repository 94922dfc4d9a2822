"""What is known of published weight files without having them: key lists, and sizes in bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bench.full_size import stored
from bench.full_size.stored import Content, Stored

GOLDEN = Path(__file__).parents[1] / "golden"
Shapes = dict[str, tuple[int, ...]]
"""Shape of every tensor of a state dict, by key."""


def key_list(file: str) -> Shapes:
    """The keys and shapes that a golden file names."""
    keys = json.loads((GOLDEN / file).read_text())["keys"]
    return {key: tuple(shape) for key, shape in keys.items()}


def shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def half(of: Shapes) -> dict[str, Stored]:
    return {key: Stored("F16", shape) for key, shape in of.items()}


def file_size(tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None = None) -> int:
    """Size in bytes of the .safetensors file of these tensors."""
    return stored.file_size(Content(tensors, metadata))
