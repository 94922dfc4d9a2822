"""Times of encoding and decoding pictures, and how long either stalls the thread that feeds the device.

Every time is the least of several, ours and Pillow's in turn, so that what else the machine does falls on both alike.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from bench.photographs import Picture, by_pillow, photograph, photographs
from bench.report import Row, row
from models.encoding import encode
from models.images import decode, to_pixels

_ROUNDS = 5
_QUALITY = 80
_MEGAPIXEL = 1024 * 1024


def rows() -> Iterator[Row]:
    """All rows, one after another as they are measured; about 40 s in all."""
    for name, picture in photographs().items():
        yield from _png_rows(name, picture)
        yield from _webp_rows(name, picture)
        yield from _jpeg_rows(name, picture)
    yield from _stall_rows()


def fastest(*contestants: Callable[[], object], rounds: int = _ROUNDS) -> list[float]:
    """The least milliseconds that each took, in `rounds` rounds in which they take turns."""
    return [min(times) for times in zip(*([_timed(it) for it in contestants] for _ in range(rounds)), strict=True)]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


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


def _stall_rows() -> Iterator[Row]:
    idle = longest_stall(partial(time.sleep, 0.03))
    yield row("nothing: longest stall of a launching thread", idle, "ms", note="what the machine alone does")
    for name, work in _encoders().items():
        yield row(f"{name}: longest stall of a launching thread", longest_stall(work), "ms", "<= 5")
    jpeg = partial(by_pillow, photograph("astronaut", 1024, 1024), "JPEG", quality=100, optimize=True)
    yield row("Pillow's JPEG quality 100: longest stall", longest_stall(jpeg), "ms", note="for comparison: not used")
    for name, data in _uploads().items():
        work = partial(_decoded, data)
        yield row(f"decode {name}: time", fastest(work)[0], "ms")
        yield row(f"decode {name}: longest stall of a launching thread", longest_stall(work), "ms", "<= 5")


def _decoded(data: bytes) -> Picture:
    return to_pixels(decode(data))


def _encoders() -> dict[str, Callable[[], object]]:
    """Our encoders, at work on 1024 x 1024 pixels."""
    face = photograph("astronaut", 1024, 1024)
    return {
        "PNG": partial(encode, face, "png", 0),
        f"WebP quality {_QUALITY}": partial(encode, face, "webp", _QUALITY),
        "JPEG quality 100": partial(encode, face, "jpg", 100),
    }


def _uploads() -> dict[str, bytes]:
    """Pictures as callers send them."""
    return {
        "JPEG of 12 megapixels": by_pillow(photograph("astronaut", 4000, 3000, noise=4), "JPEG", quality=92),
        "PNG of 1024x1024": by_pillow(photograph("astronaut", 1024, 1024, noise=6), "PNG"),
        "WebP of 1024x1024": by_pillow(photograph("astronaut", 1024, 1024, noise=6), "WEBP", quality=90),
    }


def longest_stall(work: Callable[[], object], tries: int = 3 * _ROUNDS) -> float:
    """Milliseconds that a thread which launches tiny operations waits for its turn at most while `work` runs.

    The least of several tries: a thread may also wait because the machine does something else.
    """
    return min(_stall(work) for _ in range(tries))


def _stall(work: Callable[[], object]) -> float:
    operand = torch.zeros(64)
    worker = threading.Thread(target=work)
    longest, last = 0.0, time.perf_counter()
    worker.start()
    while worker.is_alive():
        torch.add(operand, operand)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    worker.join()
    return longest * 1e3


if __name__ == "__main__":
    from bench.report import Report

    with Report("encoding", budget_s=300) as report:
        for measured in rows():
            report.put(measured)
