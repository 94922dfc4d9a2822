"""Hashes of files, and a memory of them: 30 GB need not be read again at every start.

A file counts as unchanged while its path, device, inode, size and time of change are the same. Whoever can forge these
could as well replace the program; against decaying disks there is a full verification, which never asks the memory.
"""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from models.weights.atomic import atomic_write

WEIGHT_HASHES: Final = "weight-hashes.json"
"""Name of the memory in a process's data folder."""


def sha256_of(path: Path) -> str:
    """Hash a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashCache:
    """Hashes of files, remembered in one small JSON file; without one they are remembered by this object only.

    May be used by several threads.
    """

    def __init__(self, memory: Path | None = None) -> None:
        """`memory`: the JSON file, made when there is something to remember; a damaged one is begun anew."""
        self._memory = memory
        self._known = _read(memory)
        self._lock = threading.Lock()

    def known(self, path: Path) -> str | None:
        """The remembered hash of the file at `path`, in hex; None if there is none, or the file seems changed."""
        entry = self._known.get(str(path.resolve()))
        return str(entry[-1]) if entry and entry[:-1] == _marks(path) else None

    def sha256(self, path: Path) -> str:
        """Hash of the file at `path`, in hex: remembered if nothing suggests a change, else calculated."""
        return self.known(path) or self.calculate(path)

    def calculate(self, path: Path) -> str:
        """Read the whole file at `path`; returns its hash in hex and remembers it."""
        before, digest = _marks(path), sha256_of(path)
        if _marks(path) == before:
            self.remember(path, digest)
        return digest

    def remember(self, path: Path, digest: str) -> None:
        """Take `digest` for the hash of the file at `path` as it is now."""
        with self._lock:
            # Read again: several processes share the memory, and what one forgets it only calculates once more.
            self._known = {**_read(self._memory), **self._known, str(path.resolve()): [*_marks(path), digest]}
            if self._memory is not None:
                with suppress(OSError):  # where nothing may be written, files are hashed at every start
                    self._memory.parent.mkdir(parents=True, exist_ok=True)
                    atomic_write(self._memory, json.dumps(self._known, indent=1))


def _marks(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns]


def _read(memory: Path | None) -> dict[str, list[Any]]:
    try:
        found = json.loads(memory.read_text(encoding="utf-8")) if memory else {}
        return {key: entry for key, entry in found.items() if isinstance(entry, list) and entry}
    except (OSError, ValueError, AttributeError):
        return {}
