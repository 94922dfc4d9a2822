"""What an encoded picture consists of: the stream that a decoder needs, and metadata that never decides over pixels."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final, Literal

Format = Literal["JPEG", "PNG", "WEBP", "HEIC", "AVIF"]

MAX_METADATA: Final = 4 * 1024 * 1024
"""Bytes of a colour profile, or of anything else beside the pixels, that are looked at."""
_AVIF_BRANDS: Final = (b"avif", b"avis")
_HEIC_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_ANY_HEIF_BRANDS: Final = (b"mif1", b"msf1")
"""Files that hold a picture of any codec begin with these (ISO/IEC 23008-12, 10); the compatible brands tell which."""


@dataclass(frozen=True)
class PictureFile:
    """A parsed picture file.

    `stream`: the same picture without metadata, in the same format. `exif`: a TIFF structure, with or without its
    prefix. `xmp`: XML. `profile`: an ICC profile. `bytes_per_pixel`: peak memory of decoding `stream`. `transparency`:
    the grey level or colour that is transparent, in samples as Pillow decodes them (8 bits; 16 for grey of 16 bits);
    None if there is none, or if it is part of `stream`.
    """

    format: Format
    stream: bytes
    bytes_per_pixel: int
    exif: bytes = b""
    xmp: bytes = b""
    profile: bytes = b""
    transparency: int | tuple[int, ...] | None = None

    def is_decodable(self) -> bool:
        """Whether decoding `stream` is certain to succeed, without decoding it; False is inconclusive."""
        return False


def format_of(data: bytes) -> Format | None:
    """The format that the first bytes of a file tell; None for every other than the five that are accepted."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(data[:4], "big"), 1024)
    major, *compatible = [data[at : at + 4] for at in (8, *range(16, size, 4))]
    if major in _AVIF_BRANDS or (major in _ANY_HEIF_BRANDS and any(brand in _AVIF_BRANDS for brand in compatible)):
        return "AVIF"
    if major in _HEIC_BRANDS or (major in _ANY_HEIF_BRANDS and any(brand in _HEIC_BRANDS for brand in compatible)):
        return "HEIC"
    return None


def inflate(data: bytes | memoryview) -> bytes:
    """Decompress metadata; empty if it is damaged, or larger than `MAX_METADATA`."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, MAX_METADATA)
    except zlib.error:
        return b""
    return plain if stream.eof else b""
