"""A file that says which model a worker loads. It outlives a worker that is killed, as the kernel does without memory.

The worker holds a lock on its mark: one that can be locked is that of a worker that ended without a word.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

FOLDER: Final = "loading"
"""Name of the marks' folder in the data folder."""


class LoadingMark:
    """The mark of this process. Where nothing can be written there is none."""

    def __init__(self, folder: Path) -> None:
        """Take over the marks that killed workers of this host left in `folder`."""
        self.killed = _take_over(folder)
        """How many processes in a row were killed while they loaded a model, by slug."""
        self._path, self._file = folder / _name(os.getpid()), None
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def loads(self, slug: str) -> None:
        """Say that model `slug` is loaded from now on."""
        self._write({"model": slug, "killed": self.killed})

    def has_loaded(self, slug: str) -> None:
        """Say that nothing is loaded any more, and that `slug` came to an end."""
        self.killed.pop(slug, None)
        self._write({"model": "", "killed": self.killed})

    def remove(self) -> None:
        """Remove the mark: this process has loaded what it serves."""
        self._path.unlink(missing_ok=True)
        if self._file is not None:
            self._file.close()

    def _write(self, content: dict[str, Any]) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.seek(0)
                self._file.truncate()
                self._file.write(json.dumps(content))
                self._file.flush()


def model_being_loaded(folder: Path, pid: int) -> str:
    """The model that process `pid` of this host was loading when it ended; empty if none, or if it still runs."""
    with suppress(OSError), (folder / _name(pid)).open(encoding="utf-8") as file:
        return str(_read(file)[0]) if _is_unlocked(file) else ""
    return ""


def _take_over(folder: Path) -> Counter[str]:
    killed: Counter[str] = Counter()
    for path in sorted(folder.glob(_name("*"))):
        with suppress(OSError), path.open(encoding="utf-8") as file:
            if _is_unlocked(file):
                model, before = _read(file)
                killed.update(before)
                killed.update([model] if model else [])
                path.unlink()
    return killed


def _is_unlocked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: IO[str]) -> tuple[str, dict[str, int]]:
    with suppress(ValueError, TypeError, KeyError):
        content = json.load(file)
        return str(content["model"]), {str(slug): int(count) for slug, count in content["killed"].items()}
    return "", {}


def _name(pid: int | str) -> str:
    return f"{socket.gethostname()}-{pid}.json"
