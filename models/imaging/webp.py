"""WebP files parsed into their RIFF chunks (RFC 9649, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from models.imaging.picture_file import MAX_METADATA, PictureFile

_BYTES_PER_PIXEL: Final = 16
"""The decoder keeps two canvases and a frame besides the picture."""
_METADATA: Final = (b"ICCP", b"EXIF", b"XMP ")
_PICTURE: Final = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
_METADATA_FLAGS: Final = 0x20 | 0x08 | 0x04
"""Of the extended header: there is a colour profile, EXIF, XMP."""


def parse(data: bytes) -> PictureFile:
    """Parse a WebP file once. One that is cut short keeps what is there: its decoder will refuse it."""
    kept: list[bytes] = []
    metadata: dict[bytes, bytes] = {}
    for kind, body in _chunks(memoryview(data)):
        if kind in _METADATA:
            metadata.setdefault(kind, bytes(body[:MAX_METADATA]))
        elif kind in _PICTURE:
            flagged = bytes([body[0] & ~_METADATA_FLAGS & 0xFF]) + body[1:] if kind == b"VP8X" and body else bytes(body)
            kept.append(kind + struct.pack("<I", len(flagged)) + flagged + bytes(len(flagged) % 2))
    chunks = b"".join(kept)
    stream = b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks
    exif, xmp, profile = (metadata.get(kind, b"") for kind in (b"EXIF", b"XMP ", b"ICCP"))
    return PictureFile("WEBP", stream, _BYTES_PER_PIXEL, exif, xmp, profile)


def _chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and body of all chunks; the last may be cut short."""
    at = 12
    while at + 8 <= len(data):
        kind, (length,) = bytes(data[at : at + 4]), struct.unpack_from("<I", data, at + 4)
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
