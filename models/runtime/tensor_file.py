"""Tensors of .safetensors files: names, types and shapes from the header; numbers once they are put in place.

A file is read in pieces by several threads, each piece straight into its place where the type stays the same. No
mapping of it is kept, and nothing is in memory twice: a mapped file fills memory with pages beside what they are
cast to.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor

from models.errors import WeightsError

_HEADER_SIZE_BYTES: Final = 8
_DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_COPIES: Final = (Tensor.clone, Tensor.contiguous, Tensor.detach)
_PIECE: Final = 1 << 20
"""Bytes read at a time, which a processor's caches hold while they are cast."""
_SLICE: Final = 32_704
"""Numbers cast at a time: fewer than torch divides among threads, which all have work already."""
_MOST_READERS: Final = 4
"""Threads that read and cast, one per processor: more are no faster, from a disk or from the page cache."""

Combine = Callable[[Tensor, Tensor], Tensor]
"""An elementwise function of two tensors of equal shape."""


class _File:
    """An open file; closed once no tensor of it is left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)

    def read_into(self, memory: Tensor, offset: int) -> None:
        """Fill `memory` (uint8) with the bytes from `offset` on; raises `WeightsError` if the file ends before."""
        view = memoryview(memory.numpy())  # type: ignore[arg-type]
        while view:
            count = os.preadv(self.descriptor, [view], offset)
            if not count:
                raise WeightsError("it became shorter while it was read.")
            view, offset = view[count:], offset + count


class StoredTensor(Tensor):
    """A tensor in a file, not read yet: a tensor on the meta device that knows its place.

    Views of it, such as slices and transposes, know theirs; a copy is the tensor itself, since there is nothing to be
    copied. The result of any other operation has no place, and cannot be read.
    """

    file: _File | None = None
    begin: int = 0
    """Where in the file the storage begins, in bytes."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _COPIES:
            return args[0]
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
            if not isinstance(result, Tensor):
                return result
            stored = result.as_subclass(StoredTensor)
            source = args[0] if args else None
            if (
                isinstance(source, StoredTensor)
                and result.untyped_storage()._cdata == source.untyped_storage()._cdata  # a view
            ):
                stored.file, stored.begin = source.file, source.begin
        return stored


def open_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file by name, in the order in which they lie there; none is read.

    Raises `WeightsError` for a type of numbers that no network has, and the library's errors for a malformed file.
    """
    with safe_open(path, "np"):  # checks the header, and that the file has the length that it tells
        pass
    file = _File(path)
    length = int.from_bytes(os.pread(file.descriptor, _HEADER_SIZE_BYTES, 0), "little")
    header = json.loads(os.pread(file.descriptor, length, _HEADER_SIZE_BYTES))
    header.pop("__metadata__", None)
    tensors: dict[str, Tensor] = {}
    for name, entry in sorted(header.items(), key=lambda item: (item[1]["data_offsets"], item[0])):
        if entry["dtype"] not in _DTYPES:
            raise WeightsError(f"{name} is of type {entry['dtype']}, which no network here has.")
        blank = torch.empty(entry["shape"], dtype=_DTYPES[entry["dtype"]], device="meta").as_subclass(StoredTensor)
        blank.file, blank.begin = file, _HEADER_SIZE_BYTES + length + entry["data_offsets"][0]
        tensors[name] = blank
    return tensors


@dataclass(frozen=True)
class Reading:
    """What goes into `to`, which is contiguous: a stored tensor of its shape, or what `combine` makes of two."""

    to: Tensor
    sources: tuple[Tensor, ...]
    combine: Combine | None = None


def read_all(readings: Iterable[Reading]) -> None:
    """Read, cast and put in place, in the order of the files. Raises `OSError`, and `WeightsError`."""
    ordered = sorted(readings, key=lambda reading: (str(_stored(reading.sources[0]).path), _offset(reading.sources[0])))
    scratch = threading.local()
    with ThreadPoolExecutor(min(_MOST_READERS, len(os.sched_getaffinity(0))), "read-weights") as readers:
        for _ in readers.map(lambda batch: [piece.load(scratch) for piece in batch], _batches(_pieces(ordered))):
            pass  # what a thread raised is raised here, and ends the others


def read(tensor: Tensor) -> Tensor:
    """One stored tensor, in its own type."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    flat = torch.empty(1 + last if tensor.numel() else 0, dtype=tensor.dtype, device="cpu")
    _stored(tensor).read_into(flat.view(torch.uint8), _offset(tensor))
    return flat.as_strided(tensor.shape, tensor.stride())


@dataclass(frozen=True)
class _Piece:
    """A part of a reading, as one row: where it goes, and of each source the file, its first byte and its type."""

    to: Tensor
    sources: tuple[tuple[_File, int, torch.dtype], ...]
    combine: Combine | None

    def load(self, scratch: Any) -> None:
        """Read the sources and put them in place; `scratch` is the thread's own memory."""
        on_cpu = self.to.device.type == "cpu"
        with torch.inference_mode():  # is a thread's own: what is filled may have been made in it
            if on_cpu and self.combine is None and self.sources[0][2] == self.to.dtype:
                self.sources[0][0].read_into(self.to.view(torch.uint8), self.sources[0][1])
                return
            if not hasattr(scratch, "raw"):
                scratch.raw = [torch.empty(_PIECE, dtype=torch.uint8, device="cpu") for _ in range(2)]
                scratch.wide = torch.empty(_SLICE, device="cpu")
            rows, step = [], _SLICE if on_cpu else len(self.to)
            for raw, (file, begin, dtype) in zip(scratch.raw, self.sources, strict=False):
                read = raw[: len(self.to) * dtype.itemsize]
                file.read_into(read, begin)
                rows.append(torch.split(read.view(dtype), step))
            for to, *parts in zip(torch.split(self.to, step), *rows, strict=True):
                if self.combine is not None:
                    to.copy_(self.combine(*parts))
                elif on_cpu and to.dtype == torch.bfloat16 and parts[0].dtype == torch.float16:
                    # The same bits in two steps: torch has no vector instructions from the one to the other.
                    to.copy_(scratch.wide[: len(to)].copy_(parts[0]))
                else:
                    to.copy_(parts[0])


def _batches(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """What a thread takes at once: one large piece, or small ones that follow each other."""
    batch: list[_Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += piece.to.nbytes
        if size >= _PIECE // 2:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _pieces(readings: Iterable[Reading]) -> Iterator[_Piece]:
    for reading in readings:
        if not all(source.is_contiguous() for source in reading.sources):
            (source,) = reading.sources
            reading.to.copy_(read(source))
            continue
        row = reading.to.view(-1)
        sources = [(_stored(source), _offset(source), source.dtype) for source in reading.sources]
        step = _PIECE // max(dtype.itemsize for _, _, dtype in sources)
        for first in range(0, len(row), step):
            places = tuple((file, begin + first * dtype.itemsize, dtype) for file, begin, dtype in sources)
            yield _Piece(row[first : first + step], places, reading.combine)


def _stored(tensor: Tensor) -> _File:
    if not isinstance(tensor, StoredTensor) or tensor.file is None:
        raise TypeError("This tensor is not one of a file, nor a view of one.")
    return tensor.file


def _offset(tensor: Tensor) -> int:
    return int(tensor.begin) + int(tensor.storage_offset()) * tensor.dtype.itemsize  # type: ignore[attr-defined]
