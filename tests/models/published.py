"""What is known of published weight files without having them: key lists, and sizes in bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"
Shapes = dict[str, tuple[int, ...]]
"""Shape of every tensor of a state dict, by key."""

_BYTES = {"F16": 2, "F32": 4, "I64": 8}


@dataclass(frozen=True)
class Stored:
    """How a file holds one tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return _BYTES[self.dtype] * math.prod(self.shape)


def key_list(file: str) -> Shapes:
    """The keys and shapes that a golden file names."""
    keys = json.loads((GOLDEN / file).read_text())["keys"]
    return {key: tuple(shape) for key, shape in keys.items()}


def shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def half(of: Shapes) -> dict[str, Stored]:
    return {key: Stored("F16", shape) for key, shape in of.items()}


def file_size(tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None = None) -> int:
    """Size in bytes of the .safetensors file of these tensors.

    The format: 8 bytes, then a JSON header of names, shapes and offsets, filled up to a multiple of 8, then the data,
    widest types first, then by name. One letter more in one name, or one value more in one tensor, is another size.
    """
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: (-_BYTES[item[1].dtype], item[0])):
        offsets = [end, end + tensor.size]
        header[key] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
        end = offsets[1]
    return 8 + math.ceil(len(json.dumps(header, separators=(",", ":"))) / 8) * 8 + end
