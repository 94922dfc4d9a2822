"""Atomic replacement of a file: readers, also after a crash, see the old content or the new one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

_READABLE: Final = 0o644


def atomic_write(path: Path, text: str) -> None:
    """Write `text` to `path` durably (fsync), through a temporary file and a rename; raises `OSError`."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(_READABLE)
        Path(draft).replace(path)
    except BaseException:  # no temporary file is left behind
        Path(draft).unlink(missing_ok=True)
        raise
