"""Hashes of files with a cache, so that 30 GB are not read at every start.

A cached hash is valid while path, device, inode, size and mtime are unchanged. It does not protect against an attacker
who can forge these; `facelight weights verify` ignores the cache.
"""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from models.weights.atomic import atomic_write

WEIGHT_HASHES: Final = "weight-hashes.json"
"""Name of the cache file in the data folder."""
_BLOCK: Final = 1 << 20


def sha256_of(path: Path, stop: threading.Event | None = None) -> str:
    """Hash a file, in hex; raises `CancelledError` once `stop` is set."""
    digest, block = hashlib.sha256(), bytearray(_BLOCK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            if stop and stop.is_set():
                raise CancelledError
            digest.update(memoryview(block)[:count])
    return digest.hexdigest()


class HashCache:
    """Hashes of files, cached in a JSON file, or in this object only. Thread-safe."""

    def __init__(self, cache_file: Path | None = None) -> None:
        """`cache_file`: the JSON file, created when needed; a damaged one is replaced."""
        self._cache_file = cache_file
        self._entries = _read(cache_file)
        self._lock = threading.Lock()

    def get(self, path: Path) -> str | None:
        """The cached hash of the file at `path`, in hex; None if there is none, or the file has changed."""
        entry = self._entries.get(str(path.resolve()))
        return str(entry[-1]) if entry and entry[:-1] == _stat_fingerprint(path) else None

    def sha256(self, path: Path, stop: threading.Event | None = None) -> str:
        """Hash of the file at `path`, in hex: cached if the file is unchanged, else calculated."""
        return self.get(path) or self.calculate(path, stop)

    def calculate(self, path: Path, stop: threading.Event | None = None) -> str:
        """Hash the file at `path`, and cache the result; in hex. Raises `CancelledError` once `stop` is set."""
        before, digest = _stat_fingerprint(path), sha256_of(path, stop)
        if _stat_fingerprint(path) == before:
            self.put(path, digest)
        return digest

    def put(self, path: Path, digest: str) -> None:
        """Cache `digest` as the hash of the file at `path` as it is now."""
        with self._lock:
            # Read again: several processes share the file; a lost update costs one calculation.
            self._entries = {
                **_read(self._cache_file),
                **self._entries,
                str(path.resolve()): [*_stat_fingerprint(path), digest],
            }
            if self._cache_file is not None:
                with suppress(OSError):  # where nothing may be written, files are hashed at every start
                    self._cache_file.parent.mkdir(parents=True, exist_ok=True)
                    atomic_write(self._cache_file, json.dumps(self._entries, indent=1))


def _stat_fingerprint(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns]


def _read(cache_file: Path | None) -> dict[str, list[Any]]:
    try:
        found = json.loads(cache_file.read_text(encoding="utf-8")) if cache_file else {}
        return {key: entry for key, entry in found.items() if isinstance(entry, list) and entry}
    except (OSError, ValueError, AttributeError):
        return {}
