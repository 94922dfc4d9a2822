"""The result store: encoded pictures on the local disk, each gone by itself at a set time.

A file's modification time is the moment it expires, so the folder alone tells everything: nothing is lost when Redis
is, and any process can clean up. Names are unguessable; who knows a name may read the file.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{22,64}\.(png|jpg|webp|bin)")
_GRACE_S: Final = 300
"""An expired file stays so long on the disk, so that a download under way is not torn."""


@dataclass(frozen=True)
class StoredFile:
    """One file that has not expired: where it lies, how large it is in bytes, for how many seconds it lives on."""

    path: Path
    size: int
    lives_s: float


class Store:
    """A folder of pictures. Safe to share between processes and machines that see the same folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes, extension: str, ttl_s: float) -> str:
        """Write a file durably (temporary name, fsync, rename) that expires in `ttl_s` seconds; returns its name."""
        name = f"{secrets.token_urlsafe(24)}.{extension}"
        path = self._path(name)
        path.parent.mkdir(exist_ok=True)
        draft = path.with_name(f".{name}")
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _expire_in(draft, ttl_s)
        draft.rename(path)
        return name

    def find(self, name: str) -> StoredFile | None:
        """Look a file up by its name; None if there is none, it has expired, or `name` is not a name at all."""
        if not _NAME.fullmatch(name):
            return None
        path = self._path(name)
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        lives_s = stat.st_mtime - time.time()
        return StoredFile(path, stat.st_size, lives_s) if lives_s > 0 else None

    def read(self, name: str) -> bytes | None:
        """Read a whole file; None as for `find`."""
        found = self.find(name)
        return found.path.read_bytes() if found else None

    def drop(self, name: str) -> None:
        """Remove a file now; no error if it is gone already."""
        if _NAME.fullmatch(name):
            self._path(name).unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove files that have expired a while ago, and drafts of writers that died; returns how many."""
        removed = 0
        for path in self._root.glob("??/*"):
            removed += _remove_if_expired(path)
        return removed

    def _path(self, name: str) -> Path:
        return self._root / name[:2] / name


def _expire_in(path: Path, ttl_s: float) -> None:
    now = time.time()
    os.utime(path, (now, now + ttl_s))


def _remove_if_expired(path: Path) -> bool:
    try:
        if path.stat().st_mtime + _GRACE_S > time.time():
            return False
        path.unlink()
    except FileNotFoundError:  # another process swept it first
        return False
    return True
