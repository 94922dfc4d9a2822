"""How a .safetensors file holds tensors, and how one is written tensor by tensor.

The format: 8 bytes with the length of a JSON header of names, types, shapes and offsets, which is filled with spaces up
to a multiple of 8, then the data, widest types first, then by name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

_BYTES: Final = {"F16": 2, "F32": 4, "I64": 8}
_ALIGNMENT: Final = 8
_LENGTH: Final = 8


@dataclass(frozen=True)
class Stored:
    """How a file holds one tensor: its type ("F16", "F32" or "I64") and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of its values."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return _BYTES[self.dtype] * self.count


@dataclass(frozen=True)
class Content:
    """What a file holds: its tensors by name, and the metadata in its header (None: there are none).

    `seed` and `scale` are of the random values: equal seeds give equal tensors, and `scale` multiplies weights.
    """

    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str] | None = None
    seed: int = 0
    scale: float = 1.0
    seeds: Mapping[str, int] = field(default_factory=dict)
    """Seeds of the tensors whose names begin so, instead of `seed`."""

    def seed_of(self, key: str) -> int:
        """Seed of one tensor."""
        return next((seed for prefix, seed in self.seeds.items() if key.startswith(prefix)), self.seed)


class Draw(Protocol):
    """What gives the values of a tensor."""

    def __call__(self, key: str, stored: Stored, seed: int, scale: float) -> Iterable[bytes]:
        """The bytes of a tensor, in as many pieces as it likes."""


def in_order(tensors: Mapping[str, Stored]) -> list[tuple[str, Stored]]:
    """Tensors in the order of their data."""
    return sorted(tensors.items(), key=lambda item: (-_BYTES[item[1].dtype], item[0]))


def header_of(content: Content) -> bytes:
    """All that comes before the data."""
    entries: dict[str, object] = {} if content.metadata is None else {"__metadata__": dict(content.metadata)}
    end = 0
    for key, stored in in_order(content.tensors):
        entries[key] = {"dtype": stored.dtype, "shape": stored.shape, "data_offsets": [end, end + stored.size]}
        end += stored.size
    text = json.dumps(entries, separators=(",", ":")).encode()
    return _with_length(text + b" " * (-len(text) % _ALIGNMENT))


def file_size(content: Content) -> int:
    """Size in bytes of the .safetensors file. One letter more in one name, or one value more, is another size."""
    return len(header_of(content)) + sum(stored.size for stored in content.tensors.values())


def write(path: Path, content: Content, draw: Draw, size: int | None = None) -> str:
    """Write the file; if it is smaller than `size` bytes, spaces in the header make up for that.

    A file that is larger is left as it is. Returns the SHA-256 of what was written.
    """
    header, missing = header_of(content), (size or 0) - file_size(content)
    if missing > 0:
        header = _with_length(header[_LENGTH:] + b" " * missing)
    digest = hashlib.sha256()
    pieces = (draw(key, stored, content.seed_of(key), content.scale) for key, stored in in_order(content.tensors))
    with path.open("wb") as file:
        for piece in chain([header], chain.from_iterable(pieces)):
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a .safetensors file, from its header alone."""
    with path.open("rb") as file:
        entries = json.loads(file.read(int.from_bytes(file.read(_LENGTH), "little")))
    return {
        key: Stored(entry["dtype"], tuple(entry["shape"])) for key, entry in entries.items() if key != "__metadata__"
    }


def _with_length(text: bytes) -> bytes:
    return len(text).to_bytes(_LENGTH, "little") + text
