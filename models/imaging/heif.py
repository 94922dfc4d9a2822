"""HEIC and AVIF files, which phones and browsers write by default, decoded in a process of their own.

It starts in a tenth of a second. `heif_child` tells why, and what the two say to each other.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from PIL import Image

from models.errors import UnreadableImage
from models.imaging import heif_child
from models.imaging.picture_file import Format


@dataclass(frozen=True)
class HeifPicture:
    """Pixels of the primary picture as they are stored, its ICC profile, and how it is to be turned (EXIF's numbers).

    `pixels` is None unless they were asked for.
    """

    size: tuple[int, int]
    pixels: Image.Image | None
    profile: bytes
    orientation: int


def load(data: bytes, kind: Format, max_pixels: int, max_memory: int, with_pixels: bool) -> HeifPicture:
    """Decode a HEIC or AVIF file; raises `UnreadableImage`, also for one that takes more memory than `max_memory`.

    Without `with_pixels` all is decoded as well, but stays where it was decoded.
    """
    limits = [str(max_pixels), str(max_memory)]
    command = [sys.executable, "-IB", heif_child.__file__, kind, *limits, "PIXELS" if with_pixels else "CHECK"]
    with subprocess.Popen(  # noqa: S603 - our own program
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the server, which still serves what it has begun
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
    ) as child:
        try:
            assert child.stdin is not None
            with suppress(BrokenPipeError), child.stdin as stdin:
                stdin.write(data)
            return _read(child, kind, max_pixels, max_memory, with_pixels)
        finally:
            child.kill()


def _read(
    child: subprocess.Popen[bytes], kind: Format, max_pixels: int, max_memory: int, with_pixels: bool
) -> HeifPicture:
    assert child.stdout is not None
    line = child.stdout.readline()
    head: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"error": _error_of_exit(child.wait())}
    match head.get("error"):
        case None:
            pass
        case "too large":
            raise UnreadableImage(f"The image has more than {max_pixels // 1_000_000} megapixels.")
        case "memory":
            large = f"takes more than {max_memory // 1_000_000} MB to decode: send fewer pixels"
            raise UnreadableImage(f"The {kind} file {large}, or another format.")
        case _:
            raise UnreadableImage(f"The {kind} file is damaged, cut short or of a kind that is not supported.")
    size, mode, orientation = tuple(head["size"]), head["mode"], head["orientation"]
    pixels = _read_pixels(child, mode, size, kind) if with_pixels else None
    return HeifPicture(size, pixels, base64.b64decode(head["profile"]), orientation)


def _read_pixels(child: subprocess.Popen[bytes], mode: str, size: tuple[int, int], kind: Format) -> Image.Image:
    """Strip by strip, so that the picture is in memory once."""
    assert child.stdout is not None
    picture = Image.new(mode, size)
    for top in range(0, size[1], heif_child.STRIP):
        strip = size[0], min(heif_child.STRIP, size[1] - top)
        length = strip[0] * strip[1] * len(picture.getbands())
        rows = child.stdout.read(length)
        if len(rows) < length:
            raise RuntimeError(f"the process that decoded a {kind} file ended early ({child.wait()})")
        picture.paste(Image.frombytes(mode, strip, rows), (0, top))
    return picture.convert("RGBA") if mode == "RGBa" else picture


def _error_of_exit(status: int) -> str:
    """What it means that a process has ended before it said anything; raises `RuntimeError` if it was ended."""
    if status in (-signal.SIGKILL, -signal.SIGTERM):
        raise RuntimeError("the process that decodes HEIC and AVIF files was ended from outside")
    return "damaged"
