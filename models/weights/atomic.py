"""Replacing a file in one step: a reader sees the old content or the new one, and a crash leaves one of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

_READABLE: Final = 0o644


def atomic_write(path: Path, text: str) -> None:
    """Write `text` to `path` durably, through a draft beside it; raises `OSError` as the disk has it."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(_READABLE)
        Path(draft).replace(path)
    except BaseException:  # whatever it is passes on; no draft may be left
        Path(draft).unlink(missing_ok=True)
        raise
