"""Times of encoding and decoding pictures, and how long either stalls the thread that feeds the device.

Every time is the least of several, ours and Pillow's in turn, so that what else the machine does falls on both alike.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from io import FileIO
from pathlib import Path

from bench.photographs import Picture, by_pillow, photograph, photographs
from bench.report import Row, row
from models.imaging.decode import MEDIA_TYPES, decode, to_pixels
from models.imaging.encode import encode

_ROUNDS = 5
_QUALITY = 80
_MEGAPIXEL = 1024 * 1024
_SCHEDULE = Path("/proc/thread-self/schedstat")


def rows() -> Iterator[Row]:
    """All rows, one after another as they are measured; about 30 s in all."""
    for name, picture in photographs().items():
        yield from _png_rows(name, picture)
        yield from _webp_rows(name, picture)
        yield from _jpeg_rows(name, picture)
    yield from _decode_rows()
    yield from _stall_rows()


def fastest(
    *contestants: Callable[[], object], rounds: int = _ROUNDS, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """The least milliseconds that each took by `clock`, in `rounds` rounds in which they take turns."""
    return [
        min(times) for times in zip(*([_timed(it, clock) for it in contestants] for _ in range(rounds)), strict=True)
    ]


def _timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return (clock() - start) * 1e3


def _png_rows(name: str, picture: Picture) -> Iterator[Row]:
    ours, theirs = partial(encode, picture, "png", 0), partial(by_pillow, picture, "PNG")
    took, default = fastest(ours, theirs)
    yield row(f"PNG, {name}: time", took / default, "x Pillow", "<= 0.35", _note(took, default))
    yield row(f"PNG, {name}: size", len(ours()) / len(theirs()), "x Pillow", "<= 1.15")


def _webp_rows(name: str, picture: Picture) -> Iterator[Row]:
    ours, theirs = partial(encode, picture, "webp", _QUALITY), partial(by_pillow, picture, "WEBP", quality=_QUALITY)
    took, default = fastest(ours, theirs)
    per_megapixel = took * _MEGAPIXEL / (picture.shape[0] * picture.shape[1])
    what = f"WebP quality {_QUALITY}, {name}"
    yield row(f"{what}: time per 1024x1024", per_megapixel, "ms", "<= 70", _note(took, default))
    yield row(f"{what}: size", len(ours()) / len(theirs()), "x Pillow", "<= 1.15")


def _jpeg_rows(name: str, picture: Picture) -> Iterator[Row]:
    ours = partial(encode, picture, "jpg", _QUALITY)
    theirs = partial(by_pillow, picture, "JPEG", quality=_QUALITY, optimize=True)
    took, default = fastest(ours, theirs, rounds=4 * _ROUNDS)
    what = f"JPEG quality {_QUALITY}, {name}"
    yield row(f"{what}: time", took / default, "x Pillow", "<= 1.05", _note(took, default))


def _note(took: float, default: float) -> str:
    return f"{took:.1f} ms, Pillow {default:.1f} ms"


def _decode_rows() -> Iterator[Row]:
    for name, data in _uploads().items():
        yield row(f"decode {name}: time", fastest(partial(_decoded, data))[0], "ms")


def _stall_rows() -> Iterator[Row]:
    if not _SCHEDULE.exists():
        yield row("longest stalls of a launching thread", None, "ms", note=f"this kernel has no {_SCHEDULE}")
        return
    face = photograph("astronaut", 1024, 1024)
    work: dict[str, Callable[[], object]] = {f"encode {kind}": partial(encode, face, kind, 100) for kind in MEDIA_TYPES}
    work |= {f"decode {name}": partial(_decoded, data) for name, data in _uploads().items()}
    for name, it in work.items():
        yield row(f"{name}: longest stall of a launching thread", longest_stall(it), "ms", "<= 5")
    jpeg = partial(by_pillow, face, "JPEG", quality=100, optimize=True)
    yield row("encode jpg by Pillow: longest stall", longest_stall(jpeg), "ms", note="for comparison: not used")


def _decoded(data: bytes) -> Picture:
    return to_pixels(decode(data))


def _uploads() -> dict[str, bytes]:
    """Pictures as callers send them."""
    return {
        "JPEG of 12 megapixels": by_pillow(photograph("astronaut", 4000, 3000, noise=4), "JPEG", quality=92),
        "PNG of 1024x1024": by_pillow(photograph("astronaut", 1024, 1024, noise=6), "PNG"),
        "WebP of 1024x1024": by_pillow(photograph("astronaut", 1024, 1024, noise=6), "WEBP", quality=90),
    }


def longest_stall(work: Callable[[], object], tries: int = 6 * _ROUNDS) -> float:
    """Milliseconds that a thread which has something to do waits at most for the interpreter while `work` runs.

    The least of several tries: `work` itself may be held up by other processes in the middle of what it locks.
    """
    return min(_stall(work) for _ in range(tries))


def _stall(work: Callable[[], object]) -> float:
    """One try. Like a thread that launches kernels, this one gives the interpreter away for a moment each time round.

    It does so by asking Linux how long it waited for a core so far, which is no stall of ours and is taken off.
    """
    worker = threading.Thread(target=work)
    with _SCHEDULE.open("rb", buffering=0) as schedule:
        longest, last, last_queued = 0.0, time.perf_counter(), _queued_ns(schedule)
        worker.start()
        alive = True
        while alive:
            alive = worker.is_alive()
            now, queued = time.perf_counter(), _queued_ns(schedule)
            longest = max(longest, (now - last) * 1e3 - (queued - last_queued) / 1e6)
            last, last_queued = now, queued
    worker.join()
    return longest


def _queued_ns(schedule: FileIO) -> int:
    """How long this thread has been ready to run without a core: the second number in its file."""
    schedule.seek(0)
    return int(schedule.read(64).split()[1])


if __name__ == "__main__":
    from bench.report import Report

    with Report("encoding", budget_s=300) as report:
        for measured in rows():
            report.put(measured)
