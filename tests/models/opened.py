"""Which files are opened below a folder, as the kernel tells it: by Python, by native code, or to be mapped."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_IN_OPEN, _IN_Q_OVERFLOW, _IN_ISDIR = 0x20, 0x4000, 0x4000_0000
_EVENT = struct.Struct("iIII")
_BUFFER = 1 << 20


@contextmanager
def opened(root: Path) -> Iterator[set[str]]:
    """Collect what is opened below `root` while the block runs: relative paths of files, complete when it has ended."""
    found: set[str] = set()
    watch = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        folders = dict(_watched(watch, root))
        yield found
        found |= {str((folders[number] / name).relative_to(root)) for number, name in _events(watch)}
    finally:
        os.close(watch)


def _watched(watch: int, root: Path) -> Iterator[tuple[int, Path]]:
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        number = _libc.inotify_add_watch(watch, os.fsencode(folder), _IN_OPEN)
        if number < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {folder}")
        yield number, folder


def _events(watch: int) -> Iterator[tuple[int, str]]:
    """The files of all opens so far: the number of their folder, and their name."""
    while True:
        try:
            data = os.read(watch, _BUFFER)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            assert not mask & _IN_Q_OVERFLOW, "more was opened than can be told"
            at += _EVENT.size + length
            if not mask & _IN_ISDIR:
                yield number, os.fsdecode(data[at - length : at].rstrip(b"\0"))
