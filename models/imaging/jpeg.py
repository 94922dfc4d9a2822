"""JPEG files parsed into their segments, up to the marker that ends the picture (ITU-T T.81, annex B).

Whatever lies behind that marker (a film, a second picture, a gain map) is no part of the picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from models.errors import UnreadableImage
from models.imaging.orientation import orientation_in_exif
from models.imaging.picture_file import PictureFile

MAX_SCANS: Final = 100
"""Of one file: progressive encoders write about ten, and each costs a pass over the whole picture."""
MAX_MARKERS: Final = 10_000
"""Of one file outside of compressed data: profiles and metadata in segments of 64 kB make a few hundred at most."""
_SOI: Final = b"\xff\xd8"
_EOI: Final = 0xD9
_SOS: Final = 0xDA
_APPLICATION: Final = range(0xE0, 0xF0)
_COMMENT: Final = 0xFE
_STANDALONE: Final = (0x01, *range(0xD0, 0xD8))
"""Markers without a length: TEM and RST0 to RST7."""
_FRAMES: Final = tuple(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
_PROGRESSIVE: Final = (0xC2, 0xC6, 0xCA, 0xCE)
_MARKER: Final = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_MARKER_IN_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""Compressed data hold FF only before 00 and as restart markers. Both patterns begin at the last of several FF: one
that took them all would be tried at each of them."""
_STEP: Final = 1 << 16
"""Bytes searched at a time, between which other threads get their turn."""
_JFIF: Final = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_ADOBE_SIZE: Final = 12
_EXIF: Final = b"Exif\x00\x00"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\x00"
_PROFILE: Final = b"ICC_PROFILE\x00"


def parse(data: bytes) -> PictureFile:
    """Parse a JPEG file once; raises `UnreadableImage` if it has more than `MAX_SCANS` scans or `MAX_MARKERS` markers.

    A file without the end marker, or with a segment cut short, keeps what is there: its decoder will refuse it.
    """
    kept, scans, buffered, components = [_SOI], 0, False, 0
    exif, xmp, profile = b"", b"", []
    for marker, segment, body in _segments(data):
        if marker == _SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise UnreadableImage(f"The JPEG file has more than {MAX_SCANS} scans.")
            # The decoder decides by the first scan whether it must keep the coefficients of the whole picture.
            buffered |= scans == 1 and body[:1] < bytes([components])
        elif marker in _FRAMES:
            buffered |= marker in _PROGRESSIVE
            components = body[5] if len(body) > 5 else 0
        elif marker in _APPLICATION or marker == _COMMENT:
            segment = _colour_transform(marker, body, segment)
            if marker == 0xE1 and body.startswith(_EXIF) and orientation_in_exif(exif) is None:
                exif = body
            xmp = xmp or (body.removeprefix(_XMP) if marker == 0xE1 and body.startswith(_XMP) else b"")
            if marker == 0xE2 and body.startswith(_PROFILE):
                profile.append(body.removeprefix(_PROFILE))
        kept.append(segment)
    cost = 4 + 2 * components if buffered else 8
    return PictureFile("JPEG", b"".join(kept), cost, exif, xmp, _join_profile(profile))


def _segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Marker, whole segment (a scan with its compressed data) and body of all segments up to the end marker."""
    at, markers = len(_SOI), 0
    while found := _MARKER.search(data, at):
        markers += 1
        if markers > MAX_MARKERS:
            raise UnreadableImage(f"The JPEG file has more than {MAX_MARKERS} markers.")
        marker, start, at = found[1][0], found.end() - 2, found.end()
        if marker == _EOI:
            yield marker, data[start:at], b""
            return
        if marker in _STANDALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        body, end = data[at + 2 : at + length], at + max(length, 2)
        if marker == _SOS:
            end = _end_of_scan(data, end)
        yield marker, data[start:end], body
        at = end


def _end_of_scan(data: bytes, at: int) -> int:
    """Where the compressed data from `at` on end: at the next marker, or with the file."""
    for first in range(at, len(data), _STEP):
        if found := _MARKER_IN_SCAN.search(data, first, first + _STEP + 1):
            return at + len(data[at : found.start()].rstrip(b"\xff"))  # fill bytes are no part of them
    return len(data)


def _colour_transform(marker: int, body: bytes, segment: bytes) -> bytes:
    """Of application segments, what tells the decoder how the components come to RGB (JFIF and Adobe); else nothing."""
    if marker == 0xE0 and body.startswith(b"JFIF\x00") and len(body) >= 14:
        return _JFIF
    return segment if marker == 0xEE and body.startswith(b"Adobe") and len(body) >= _ADOBE_SIZE else b""


def _join_profile(parts: list[bytes]) -> bytes:
    """A colour profile from its numbered segments (ICC.1, B.4), in their order; one that comes twice counts once.

    Whether it is whole is found out when it is read.
    """
    numbered = {part[0]: part[2:] for part in parts if len(part) > 2}
    return b"".join(numbered[number] for number in sorted(numbered))
