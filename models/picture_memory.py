"""What decoding a picture costs in memory, told from its header: some small files ask for a great deal.

Measured with Pillow 13: every picture takes 4 bytes per pixel, and as much again while it is turned upright. A WebP
decoder keeps two canvases and a frame besides. A JPEG of several scans (progressive, or its colours one after another)
is kept as coefficients of 2 bytes per component until the last scan is read.
"""

from __future__ import annotations

import struct
from typing import Final

from PIL import Image

MAX_SCANS: Final = 100
"""Of one JPEG file: progressive encoders write about ten, and each costs a pass over the whole picture."""
_PLAIN: Final = 8
_WEBP: Final = 16
_SCAN: Final = b"\xff\xda"
"""Marker that begins a scan (ITU-T T.81, B.2.3); compressed data never hold it."""


def bytes_per_pixel(picture: Image.Image, data: bytes) -> int:
    """Peak memory of decoding `picture`, whose encoded form is `data`, for each of its pixels."""
    if picture.format == "WEBP":
        return _WEBP
    if picture.format == "JPEG" and (picture.info.get("progressive") or _first_scan(data) < len(picture.getbands())):
        return 4 + 2 * len(picture.getbands())
    return _PLAIN


def has_too_many_scans(picture: Image.Image, data: bytes) -> bool:
    """Whether a JPEG would be decoded over and over."""
    return picture.format == "JPEG" and data.count(_SCAN) > MAX_SCANS


def _first_scan(data: bytes) -> int:
    """Number of components in the first scan of a JPEG file; 0 if there is none."""
    position = 2
    while position + 5 <= len(data) and data[position] == 0xFF:
        if data[position : position + 2] == _SCAN:
            return data[position + 4]
        length: int = struct.unpack_from(">H", data, position + 2)[0]
        position += 2 + length if data[position + 1] != 0xFF else 1  # markers may be preceded by fill bytes
    return 0
