"""Decodes one HEIC or AVIF file in a process of its own; `models.imaging.heif` starts it. It imports nothing of ours.

    heif_child.py HEIC|AVIF MAX_PIXELS MAX_MEMORY PIXELS|CHECK < file > one line of JSON, then rows of pixels

The line says `{"error": word}`, or `mode`, `size`, `profile` (base64) and `orientation`. Containers of this family may
claim one size and hold another, and their decoders are large native libraries: whatever goes wrong in here ends nothing
but this process, and the system keeps it within bounds of memory and time.
"""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import AvifImagePlugin, ExifTags, Image

CPU_S = 30
STRIP = 256
OWN_MEMORY = 48_000_000
"""Bytes that the interpreter and the libraries take by themselves."""
WORST_BYTES_PER_PIXEL = 16
"""Of a picture with full chroma and alpha; common ones take 5 (HEIC) to 9 (AVIF)."""


def main(kind: str, max_pixels: int, max_memory: int, wanted: str) -> None:
    """Decode standard input within limits of memory and time; the module says what is written."""
    data = sys.stdin.buffer.read()
    limit = max_memory + OWN_MEMORY + len(data)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        head, rows = (_heic if kind == "HEIC" else _avif)(data, max_pixels, max_memory)
    except TooLarge:
        head, rows = {"error": "too large"}, iter(())
    except MemoryError:
        head, rows = {"error": "memory"}, iter(())
    except Exception:  # noqa: BLE001 - the libraries raise many kinds on hostile bytes: all mean that this is no picture
        head, rows = {"error": "damaged"}, iter(())
    out = sys.stdout.buffer
    out.write(json.dumps(head).encode() + b"\n")
    if wanted == "PIXELS":
        for strip in rows:
            out.write(strip)
    out.flush()


class TooLarge(Exception):
    """More pixels than are accepted."""


@contextmanager
def _decoding(size: tuple[int, int], max_memory: int) -> Iterator[None]:
    """Call it a lack of memory if a picture fails that may have needed more: the libraries do not tell."""
    try:
        yield
    except Exception as error:  # of any kind: it is raised again, or as a lack of memory
        if size[0] * size[1] * WORST_BYTES_PER_PIXEL > max_memory:
            raise MemoryError from error
        raise


def _heic(data: bytes, max_pixels: int, max_memory: int) -> tuple[dict[str, object], Iterator[bytes]]:
    import pillow_heif  # takes as long to import as all the rest, and AVIF does without

    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False
    file = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    picture = file[file.primary_index]
    _check_size(picture.size, max_pixels)
    with _decoding(picture.size, max_memory):
        pixels = memoryview(picture.data)
    _check_size(picture.size, max_pixels)
    mode, pixels = ("L", pixels[1::2]) if picture.mode == "I;16" else (picture.mode, pixels)  # upper bytes of grey
    row = picture.size[0] * Image.getmodebands(mode)
    strips = (bytes(pixels[top * row : (top + STRIP) * row]) for top in range(0, picture.size[1], STRIP))
    head = {"mode": mode, "size": picture.size, "orientation": 1}
    profile = picture.info.get("icc_profile")
    return head | {"profile": b64encode(profile if isinstance(profile, bytes) else b"").decode()}, strips


def _avif(data: bytes, max_pixels: int, max_memory: int) -> tuple[dict[str, object], Iterator[bytes]]:
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    Image.MAX_IMAGE_PIXELS = None  # the limit below is stricter
    picture = Image.open(io.BytesIO(_without_exif(data)), formats=["AVIF"])
    _check_size(picture.size, max_pixels)
    # The container's own turns and mirrors, which Pillow tells as EXIF would.
    exif = Image.Exif()
    exif.load(picture.info.get("exif", b""))
    orientation, profile = exif.get(ExifTags.Base.Orientation, 1), picture.info.get("icc_profile") or b""
    with _decoding(picture.size, max_memory):
        picture.load()
    width, height = picture.size
    strips = (picture.crop((0, top, width, min(top + STRIP, height))).tobytes() for top in range(0, height, STRIP))
    head = {"mode": picture.mode, "size": picture.size, "orientation": orientation}
    return head | {"profile": b64encode(profile).decode()}, strips


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise TooLarge


def _without_exif(data: bytes) -> bytes:
    """Hide EXIF items, which say nothing about the pixels (MIAF, 7.3.6) and which Pillow must be able to parse."""
    out = bytearray(data)
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind != b"meta":
            continue
        for inner, first, last in _boxes(data, start + 4, end):
            if inner == b"iinf":
                entries = first + (6 if data[first] == 0 else 8)
                for entry, at, _ in _boxes(data, entries, last):
                    item_type = at + (8 if data[at] == 2 else 10)
                    if entry == b"infe" and out[item_type : item_type + 4] == b"Exif":
                        out[item_type : item_type + 4] = b"skip"
    return bytes(out)


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the content of the boxes in a part of a file (ISO/IEC 14496-12, 4.2)."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1 and at + 16 <= end:
            (size,), start = struct.unpack_from(">Q", data, start), at + 16
        stop = end if size == 0 else at + size
        if stop < start or stop > end:
            return
        yield kind, start, stop
        at = stop


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
