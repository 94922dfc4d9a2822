"""Tensors of .safetensors files: names, types and shapes from the header; numbers once they are put in place.

A file is read in pieces by several threads, each piece straight into its place where the type stays the same. No
mapping of it is kept, and nothing is in memory twice: a mapped file fills memory with pages beside what they are
cast to.
"""

from __future__ import annotations

import json
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
_PIECE: Final = 4 << 20
"""Bytes read at a time, which the caches of a processor hold while they are cast."""
_READERS: Final = 4
"""Threads that read: more are no faster on a disk, nor from the page cache."""
_AHEAD: Final = 2 * _READERS
"""Pieces that are read or wait to be cast."""

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
        result = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        source = args[0] if args else None
        if isinstance(result, StoredTensor) and isinstance(source, StoredTensor):
            with torch._C.DisableTorchFunctionSubclass():
                is_view = result.untyped_storage()._cdata == source.untyped_storage()._cdata
            if is_view:
                result.file, result.begin = source.file, source.begin
        return result


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
    ordered = sorted(readings, key=lambda reading: _span(reading.sources[0]))
    waiting: deque[tuple[_Piece, Future[list[Tensor]]]] = deque()
    free: list[Tensor] = []
    with ThreadPoolExecutor(min(_READERS, len(os.sched_getaffinity(0))), "read-weights") as readers:
        for piece in _pieces(ordered):
            if len(waiting) == _AHEAD:
                _place_next(waiting, free)
            blanks = [] if piece.direct else [free.pop() if free else _blank() for _ in piece.begins]
            waiting.append((piece, readers.submit(piece.read, blanks)))
        while waiting:
            _place_next(waiting, free)


def read(tensor: Tensor) -> Tensor:
    """One stored tensor, in its own type."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    flat = torch.empty(1 + last if tensor.numel() else 0, dtype=tensor.dtype, device="cpu")
    _stored(tensor).read_into(flat.view(torch.uint8), _offset(tensor))
    return flat.as_strided(tensor.shape, tensor.stride())


@dataclass(frozen=True)
class _Piece:
    """A part of a reading, as one row: where its sources begin, of which types they are, and where it goes."""

    to: Tensor
    files: tuple[_File, ...]
    begins: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]
    combine: Combine | None

    @property
    def direct(self) -> bool:
        """Whether the bytes of the file are those that are wanted in memory."""
        return self.combine is None and self.to.device.type == "cpu" and self.dtypes == (self.to.dtype,)

    def read(self, blanks: Sequence[Tensor]) -> list[Tensor]:
        """Read the sources, into `blanks` unless straight into place."""
        if self.direct:
            self.files[0].read_into(self.to.view(torch.uint8), self.begins[0])
            return []
        for file, begin, dtype, blank in zip(self.files, self.begins, self.dtypes, blanks, strict=True):
            file.read_into(blank[: len(self.to) * dtype.itemsize], begin)
        return list(blanks)

    def place(self, blanks: Sequence[Tensor]) -> None:
        """Cast, or combine, what was read."""
        read = [
            blank[: len(self.to) * dtype.itemsize].view(dtype) for blank, dtype in zip(blanks, self.dtypes, strict=True)
        ]
        if self.combine is not None:
            self.to.copy_(self.combine(*read))
        elif self.to.dtype == torch.bfloat16 and self.to.device.type == "cpu":
            # In two steps, the same bits: torch has no vector instructions from one 16-bit format to the other.
            self.to.copy_(read[0].float())
        else:
            self.to.copy_(read[0])


def _place_next(waiting: deque[tuple[_Piece, Future[list[Tensor]]]], free: list[Tensor]) -> None:
    piece, future = waiting.popleft()
    blanks = future.result()
    if blanks:
        piece.place(blanks)
        free.extend(blanks)


def _pieces(readings: Iterable[Reading]) -> Iterator[_Piece]:
    for reading in readings:
        if not all(source.is_contiguous() for source in reading.sources):
            (source,) = reading.sources
            reading.to.copy_(read(source))
            continue
        row, files = reading.to.view(-1), tuple(_stored(source) for source in reading.sources)
        begins, dtypes = [_offset(s) for s in reading.sources], tuple(s.dtype for s in reading.sources)
        step = _PIECE // max(dtype.itemsize for dtype in dtypes)
        for first in range(0, len(row), step):
            places = tuple(begin + first * dtype.itemsize for begin, dtype in zip(begins, dtypes, strict=True))
            yield _Piece(row[first : first + step], files, places, dtypes, reading.combine)


def _blank() -> Tensor:
    return torch.empty(_PIECE, dtype=torch.uint8, device="cpu")


def _stored(tensor: Tensor) -> _File:
    if not isinstance(tensor, StoredTensor) or tensor.file is None:
        raise TypeError("This tensor is not one of a file, nor a view of one.")
    return tensor.file


def _offset(tensor: Tensor) -> int:
    return int(tensor.begin) + int(tensor.storage_offset()) * tensor.dtype.itemsize  # type: ignore[attr-defined]


def _span(tensor: Tensor) -> tuple[str, int]:
    return str(_stored(tensor).path), _offset(tensor)
