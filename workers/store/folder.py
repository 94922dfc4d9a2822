"""The result store in a folder: on a local disk, or on a volume that several machines see."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

from workers.errors import StoreRefused, StoreUnavailable
from workers.store.base import Store, StoredFile, is_name

_CHUNK: Final = 256 * 1024
_STRAY_S: Final = 86_400
_REFUSALS: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}


class FolderStore(Store):
    """Files in folders named by the first two characters of their names, so that none of them grows too long."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._root = root

    def open(self, found: StoredFile, start: int, length: int) -> Iterator[bytes] | None:
        """See `Store.open`."""
        with _translated():
            try:
                file = self._path(found.name).open("rb")
            except FileNotFoundError:
                return None
        return _chunks(file, start, length)

    def purge_expired(self) -> int:
        """See `Store.purge_expired`."""
        with _translated():
            return sum(_remove(path) for path in self._root.glob("??/*") if self._is_old(path))

    def _is_old(self, path: Path) -> bool:
        """By the name that it has, or was to have; what has no such name does not belong here, and goes in time."""
        name = path.name.removeprefix(".")
        return self._is_purgeable(name) if is_name(name) else _age_s(path) > _STRAY_S

    @contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[None]:
        """Under a temporary name first, so that readers see the whole file or none.

        It is synchronised under its own name, which thereby is as durable as what it stands for.
        """
        path = self._path(name)
        draft = path.with_name(f".{name}")
        with _translated():
            file = _begin(draft)
        with file:
            with _translated(), _removed_on_error(draft):
                _write_all(file, data)
                draft.rename(path)
            yield
            with _translated(), _removed_on_error(path):
                os.fsync(file.fileno())

    def _size(self, name: str) -> int | None:
        with _translated():
            try:
                return self._path(name).stat().st_size
            except FileNotFoundError:
                return None

    def _read(self, name: str) -> bytes | None:
        with _translated():
            try:
                return self._path(name).read_bytes()
            except FileNotFoundError:
                return None

    def _remove(self, name: str) -> None:
        with _translated():
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._root / name[:2] / name


@contextmanager
def _translated() -> Iterator[None]:
    """Say in this room's errors what the disk complains about."""
    try:
        yield
    except OSError as error:
        kind = StoreRefused if error.errno in _REFUSALS else StoreUnavailable
        raise kind(f"{error.strerror}: {error.filename}") from error


def _begin(path: Path) -> FileIO:
    """Open a new file; its folder is made if this is the first in it.

    It has no buffer: one that cannot be written would be tried, and complain, once more when the file is closed.
    """
    try:
        return path.open("wb", buffering=0)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb", buffering=0)


def _write_all(file: FileIO, data: bytes) -> None:
    """What has room is written before the disk complains."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


@contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def _chunks(file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    with file, _translated():
        file.seek(start)
        left = length
        while left and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk


def _age_s(path: Path) -> float:
    """Seconds since the last change; 0 if the file is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:  # another process swept it first
        return False
    return True
