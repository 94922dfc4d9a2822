"""The kernel's cache of files, emptied for measurements that are to read from the disk."""

from __future__ import annotations

import os
from pathlib import Path


def evict(*paths: Path) -> None:
    """Have the kernel drop files, or all files below folders, from its cache: the next reading is from the disk."""
    below = (file for path in paths for file in (path.rglob("*") if path.is_dir() else (path,)))
    for path in filter(Path.is_file, below):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
