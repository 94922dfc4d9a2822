"""The disk of the data folder: that it can be written, its room and its speed."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

from cli.doctor.finding import Finding, fail, ok, warn

_GIGABYTE: Final = 1e9
_SCARCE: Final = 10e9
_TOO_LITTLE: Final = 1e9
_BLOCK: Final = 1024**2
_BLOCKS: Final = 32
_SYNCS: Final = 5
_SLOW_RATE: Final = 30e6
"""Bytes per second; at less, a picture of 1.5 MB takes longer to write than to encode."""
_SLOW_SYNC_S: Final = 0.1
"""Every picture is synced before its request is completed, and every input before its request is accepted."""


def check_disk(folder: Path) -> Iterator[Finding]:
    """Room and speed of the disk that `folder` is on; it is created if need be, as the server does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-"):
            pass
    except OSError as error:
        yield fail(
            f"{folder.resolve()} cannot be written: {error.strerror}",
            f"Free room there, give the folder to user {os.getuid()}, or let FACELIGHT_DATA_DIR name another one.",
        )
        return
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    yield judge_room(folder, free)
    if free >= _TOO_LITTLE:
        yield judge_speed(*_measured(folder))


def judge_room(folder: Path, free: int) -> Finding:
    """`free`: bytes that are left on its disk."""
    told = f"{free / _GIGABYTE:.1f} GB are free on the disk of {folder.resolve()}"
    remedy = "Free room, or let FACELIGHT_DATA_DIR name a larger disk. A shorter FACELIGHT_RESULT_TTL_S keeps less."
    if free < _TOO_LITTLE:
        return fail(told, remedy)
    return warn(told, remedy) if free < _SCARCE else ok(told)


def judge_speed(rate: float, sync_s: float) -> Finding:
    """`rate`: bytes per second of a large file; `sync_s`: seconds until a small one is durable."""
    told = f"it writes {rate / 1e6:.0f} MB/s, and a small file is durable after {sync_s * 1000:.1f} ms"
    if rate < _SLOW_RATE or sync_s > _SLOW_SYNC_S:
        return warn(told, "Use a local SSD: requests wait for this disk when they are accepted and when they end.")
    return ok(told)


def _measured(folder: Path) -> tuple[float, float]:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-", buffering=0) as file:
        block, began = os.urandom(_BLOCK), time.perf_counter()
        for _ in range(_BLOCKS):
            file.write(block)
        os.fsync(file.fileno())
        rate = _BLOCKS * _BLOCK / (time.perf_counter() - began)
    return rate, median(_sync_s(folder) for _ in range(_SYNCS))


def _sync_s(folder: Path) -> float:
    began = time.perf_counter()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-", buffering=0) as file:
        file.write(b"x" * 4096)
        os.fsync(file.fileno())
        return time.perf_counter() - began
