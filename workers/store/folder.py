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
    """Files in subfolders named by the first two characters of their names, to keep folders small."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._root = root

    def open(self, found: StoredFile, start: int, length: int) -> Iterator[bytes] | None:
        """See `Store.open`."""
        with _map_errors():
            try:
                file = self._path(found.name).open("rb")
            except FileNotFoundError:
                return None
        return _chunks(file, start, length)

    def path_of(self, found: StoredFile) -> str:
        """See `Store.path_of`."""
        return f"{found.name[:2]}/{found.name}"

    def purge_expired(self) -> int:
        """See `Store.purge_expired`."""
        with _map_errors():
            return sum(_remove(path) for path in self._root.glob("??/*") if self._is_old(path))

    def _is_old(self, path: Path) -> bool:
        """By its name, or the name a partial file was written for; a foreign file goes after a day."""
        name = path.name.removeprefix(".")
        return self._is_purgeable(name) if is_name(name) else _age_s(path) > _STRAY_S

    @contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[None]:
        """Write under a temporary name and rename, so that readers see the whole file or none.

        fsync follows the rename, so that it covers the name too.
        """
        path = self._path(name)
        partial = path.with_name(f".{name}")
        with _map_errors():
            file = _begin(partial)
        with file:
            with _map_errors(), _removed_on_error(partial):
                _write_all(file, data)
                partial.rename(path)
            yield
            with _map_errors(), _removed_on_error(path):
                os.fsync(file.fileno())

    def _size(self, name: str) -> int | None:
        with _map_errors():
            try:
                return self._path(name).stat().st_size
            except FileNotFoundError:
                return None

    def _read(self, name: str) -> bytes | None:
        with _map_errors():
            try:
                return self._path(name).read_bytes()
            except FileNotFoundError:
                return None

    def _remove(self, name: str) -> None:
        with _map_errors():
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._root / name[:2] / name


@contextmanager
def _map_errors() -> Iterator[None]:
    """Map errors of the file system to `StoreRefused` and `StoreUnavailable`."""
    try:
        yield
    except OSError as error:
        kind = StoreRefused if error.errno in _REFUSALS else StoreUnavailable
        raise kind(f"{error.strerror}: {error.filename}") from error


def _begin(path: Path) -> FileIO:
    """Open a new file, and create its folder if this is the first in it.

    Unbuffered: a buffer that cannot be flushed would raise again when the file is closed.
    """
    try:
        return path.open("wb", buffering=0)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb", buffering=0)


def _write_all(file: FileIO, data: bytes) -> None:
    """Repeat short writes, as an unbuffered file may write less than it is given."""
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
    with file, _map_errors():
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
    except FileNotFoundError:  # another process purged it first
        return False
    return True
