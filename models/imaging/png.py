"""PNG files parsed into their chunks (PNG specification, third edition, sections 5, 7 to 11).

The critical chunks decide, and their checksums must be right. Of the ancillary ones transparency, colour profile and
orientation are looked at, and one that is damaged, out of place or of the wrong size counts as absent, as in browsers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from models.errors import UnreadableImage
from models.imaging.picture_file import MAX_METADATA, PictureFile, inflate

_DAMAGED: Final = "The PNG file is damaged."
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEADER: Final = struct.Struct(">IIBBBBB")
_CRITICAL: Final = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_CHANNELS: Final = {0: 1, 2: 3, 4: 2, 6: 4}
"""Samples per pixel by colour type; palettes, which pixels may point beyond, are left to the decoder."""
_GREY, _RGB, _PALETTE = 0, 2, 3
_BYTES_PER_PIXEL: Final = 8
_PIECE: Final = 1 << 20
_FILTERS: Final = bytes(range(5))
_XMP: Final = b"XML:com.adobe.xmp"
_EXIF_TEXT: Final = b"Raw profile type exif"
"""Keyword under which ImageMagick keeps EXIF: three lines of heading, then hexadecimal digits."""

Header = tuple[int, int, int, int, int, int, int]
"""Width, height, bits per sample, colour type, and the methods of compression, filters and interlacing."""


@dataclass(frozen=True)
class PngFile(PictureFile):
    """A parsed PNG file. `rows`: the compressed pixels, in pieces. A palette's transparency is part of `stream`."""

    header: Header = (0, 0, 0, 0, 0, 0, 0)
    rows: Sequence[memoryview] = ()

    def is_decodable(self) -> bool:
        """Whether decoding cannot fail, determined in a third of the time: 8 or 16 bits, no palette, not interlaced.

        The stream of rows is read to its end, and each row's kind of filter; undoing the filters, which takes the most
        time, cannot fail. False says nothing.
        """
        width, height, depth, colours, *methods = self.header
        if depth not in (8, 16) or colours not in _CHANNELS or any(methods):
            return False
        return _has_rows(self.rows, 1 + width * _CHANNELS[colours] * depth // 8, height)


def parse(data: bytes) -> PngFile:
    """Parse a PNG file once; raises `UnreadableImage` if a critical chunk is damaged, unknown or out of place.

    A file that ends early keeps what is there: if pixels are missing, its decoder will refuse it.
    """
    header, palette, transparency = b"", b"", b""
    rows: list[memoryview] = []
    exif, text_exif, xmp, profile = b"", b"", b"", b""
    for kind, body, is_intact in _chunks(memoryview(data)):
        is_critical = not kind[0] & 0x20
        if is_critical and (not is_intact or kind not in _CRITICAL or (kind == b"IHDR") == bool(header)):
            raise UnreadableImage(_DAMAGED)
        if kind == b"IEND":
            break
        if kind == b"IHDR":
            header = bytes(body)
        elif kind == b"PLTE":
            palette = palette or (bytes(body) if not rows else b"")
        elif kind == b"IDAT":
            rows.append(body)
        elif is_intact and kind == b"tRNS" and not rows:
            transparency = transparency or _usable_transparency(header, palette, bytes(body))
        elif is_intact and kind == b"iCCP" and not rows:
            profile = profile or inflate(body[bytes(body[:80]).find(b"\0") + 2 :]) or b"?"  # is ignored, and logged
        elif is_intact and kind == b"eXIf":
            exif = exif or bytes(body)
        elif is_intact and kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, _, _ = bytes(body[:80]).partition(b"\0")
            if keyword == _XMP and kind == b"iTXt":
                xmp = xmp or _international_text(body[len(keyword) + 1 :])
            elif keyword == _EXIF_TEXT:
                text_exif = text_exif or _hexadecimal(kind, body[len(keyword) + 1 :])
    if len(header) != _HEADER.size:
        raise UnreadableImage(_DAMAGED)
    fields: Header = _HEADER.unpack(header)
    colours = fields[3]
    if colours == _PALETTE and (not palette or len(palette) % 3):
        raise UnreadableImage(_DAMAGED)
    kept = [_chunk(b"IHDR", header)]
    if colours == _PALETTE:
        kept += [_chunk(b"PLTE", palette), *([_chunk(b"tRNS", transparency)] if transparency else [])]
    kept += [*(_chunk(b"IDAT", body) for body in rows), _chunk(b"IEND", b"")]
    return PngFile(
        "PNG",
        b"".join([_SIGNATURE, *kept]),
        _BYTES_PER_PIXEL,
        exif or text_exif,
        xmp,
        profile,
        _transparent_samples(fields, transparency),
        fields,
        rows,
    )


def _chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Kind, body and whether the checksum is right, of all chunks; ends at the first that is cut short."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = bytes(data[at + 4 : at + 8]), at + 8 + length
        if end + 4 > len(data):
            return
        yield kind, data[at + 8 : end], zlib.crc32(data[at + 4 : end]) == struct.unpack_from(">I", data, end)[0]
        at = end + 4


def _chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _usable_transparency(header: bytes, palette: bytes, body: bytes) -> bytes:
    """What a tRNS chunk says, if it has the size that the colour type asks for; else nothing."""
    colours = header[9] if len(header) == _HEADER.size else None
    if colours == _PALETTE:
        return body if len(body) <= len(palette) // 3 else b""
    return body if (colours, len(body)) in ((_GREY, 2), (_RGB, 6)) else b""


def _transparent_samples(header: Header, body: bytes) -> int | tuple[int, ...] | None:
    _, _, depth, colours, *_ = header
    if not body or colours == _PALETTE:
        return None
    samples: tuple[int, ...] = struct.unpack(f">{len(body) // 2}H", body)
    if colours == _GREY and depth == 16:
        return samples[0]
    # Pillow decodes samples of 16 bits to their upper 8; those of less it spreads over the whole range of 8.
    largest = (1 << depth) - 1
    levels = tuple(sample >> 8 if depth == 16 else (sample & largest) * 255 // largest for sample in samples)
    return levels[0] if colours == _GREY else levels


def _international_text(rest: memoryview) -> bytes:
    """The text of an iTXt chunk behind its keyword: two flags, language, translated keyword, text."""
    if len(rest) < 2:
        return b""
    language_end = bytes(rest[2:258]).find(b"\0") + 2
    keyword_end = bytes(rest[language_end + 1 : language_end + 1025]).find(b"\0") + language_end + 1
    text = rest[keyword_end + 1 :]
    return inflate(text) if rest[0] else bytes(text[:MAX_METADATA])


def _hexadecimal(kind: bytes, rest: memoryview) -> bytes:
    text = inflate(rest[1:]) if kind == b"zTXt" else _international_text(rest) if kind == b"iTXt" else bytes(rest)
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _has_rows(pieces: Sequence[memoryview], row: int, height: int) -> bool:
    """Whether the stream ends well after exactly `height` rows of `row` bytes, each with a filter that there is."""
    stream, size, expected = zlib.decompressobj(), 0, row * height
    try:
        for piece in pieces:
            waiting: bytes | memoryview = piece
            while waiting and not stream.eof:
                plain = stream.decompress(waiting, _PIECE)
                if plain[-size % row :: row].translate(None, _FILTERS):
                    return False
                size += len(plain)
                waiting = stream.unconsumed_tail
    except zlib.error:
        return False
    return stream.eof and size == expected
