"""Which way up a picture is: one number out of its metadata (Exif 3.0, 4.6.5.1.8; XMP part 2, tiff namespace)."""

from __future__ import annotations

import re
import struct
from typing import Final

from PIL import Image

_TAG: Final = 0x0112
_FORMATS: Final = {1: "B", 3: "H", 4: "I"}
"""How the types of integers are stored: BYTE, SHORT, LONG."""
_IN_XMP: Final = re.compile(rb"tiff:Orientation(?:=[\"']|>)([0-9])")
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(exif: bytes, xmp: bytes) -> int:
    """The orientation, 1 to 8 by EXIF's numbers; 1 where nothing usable is said. EXIF decides, else XMP."""
    orientation = orientation_in_exif(exif)
    if orientation is None:
        found = _IN_XMP.search(xmp)
        orientation = int(found[1]) if found else 1
    return orientation if orientation in _TURNS else 1


def apply(picture: Image.Image, orientation: int) -> Image.Image:
    """Turn a stored picture upright."""
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def orientation_in_exif(exif: bytes) -> int | None:
    """The orientation in the first directory of a TIFF structure; 0 if it is no number, None if it is absent.

    No other entry is looked at: what they hold, and how damaged they are, makes no difference.
    """
    tiff = re.sub(rb"\A(?:Exif\0\0)+", b"", exif)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", tiff, at)
            if tag == _TAG:
                is_number = kind in _FORMATS and values == 1
                return int(struct.unpack_from(f"{order}{_FORMATS[kind]}", tiff, at + 8)[0]) if is_number else 0
    except struct.error:  # the directory is cut short
        return None
    return None
