"""Picture files put together byte by byte, as cameras, editors and accidents make them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Entry = tuple[int, int, int, bytes]
"""Tag, type, number of values, and the four bytes that hold the value or its offset."""


def scene(width: int = 80, height: int = 48) -> Image.Image:
    """A picture in which every turn and mirror can be told, smooth enough for lossy formats."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = [columns * 255 // width, rows * 255 // height, 255 - (columns + rows) * 255 // (width + height)]
    return Image.fromarray(np.stack(pixels, -1).astype(np.uint8))


def saved(picture: Image.Image, form: str, **options: Any) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def wrong(made: bytes) -> bytes:
    """A PNG chunk whose checksum is wrong."""
    return made[:-1] + bytes([made[-1] ^ 1])


def png_file(width: int, height: int, depth: int, colours: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG file; `rows` are the filtered pixels, `chunks` stand between the header and them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    return SIGNATURE + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG file with more chunks behind its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def tiff(entries: Sequence[Entry], order: str = ">") -> bytes:
    """The TIFF structure that EXIF is, with one directory."""
    head = (b"MM\x00\x2a" if order == ">" else b"II\x2a\x00") + struct.pack(f"{order}I", 8)
    body = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack(f"{order}HHI", tag, kind, count) + value
    return head + body + bytes(4)


def short(value: int, order: str = ">") -> bytes:
    """A SHORT in an entry's four bytes."""
    return struct.pack(f"{order}H", value) + bytes(2)


def orientation(value: int, order: str = ">") -> Entry:
    """The entry that tells how a picture is to be turned."""
    return 0x0112, 3, 1, short(value, order)


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG file with one more segment at its beginning."""
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def with_exif(jpeg: bytes, exif: bytes) -> bytes:
    """A JPEG file with this TIFF structure."""
    return with_segment(jpeg, 0xE1, b"Exif\0\0" + exif)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file of these chunks."""
    body = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


ODD_EXIF: dict[str, list[Entry]] = {
    "a resolution of zero by zero": [(0x011A, 5, 1, struct.pack(">I", 200)), (0x011B, 5, 1, struct.pack(">I", 200))],
    "a resolution as text": [(0x011A, 2, 3, b"72\0\0"), (0x011B, 2, 3, b"72\0\0")],
    "a photometric tag of three values": [(0x0106, 3, 3, struct.pack(">I", 200))],
    "negative rationals": [(0x011A, 10, 1, struct.pack(">I", 208)), (0x9204, 5, 1, struct.pack(">I", 208))],
    "a type that is not known": [(0x010E, 99, 7, b"abcd")],
    "a value that lies outside": [(0x010F, 2, 1 << 20, struct.pack(">I", 1 << 30))],
    "texts that are no text": [(0x010E, 2, 4, b"\xff\xfe\x00\xff"), (0x0132, 3, 1, b"\xff\xff\xff\xff")],
}
"""By what is odd: entries beside the orientation in files of cameras and editors. Values lie at 200 and 208."""


def odd_exif(name: str, turned: int = 6) -> bytes:
    """A TIFF structure that asks for a turn and holds something odd besides."""
    entries = sorted([*ODD_EXIF[name], orientation(turned)])
    return tiff(entries).ljust(200, b"\0") + struct.pack(">iiii", 0, 0, -72, 1)


def xmp(turned: int) -> bytes:
    """XMP that asks for a turn, as an attribute."""
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
    ) % turned


def display_p3() -> bytes:
    """An ICC profile of Display P3: its primaries adapted to D50, and the curve of sRGB."""
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0)
    curve += b"".join(_fixed(value) for value in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    primaries = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    tags = {name: b"XYZ " + bytes(4) + b"".join(map(_fixed, xyz)) for name, xyz in primaries.items()}
    return _profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def grey_gamma(gamma: float) -> bytes:
    """An ICC profile of grey with that gamma."""
    return _profile(b"GRAY", {b"kTRC": b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)})


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65_536))


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78 + 8),
        b"wtpt": b"XYZ " + bytes(4) + b"".join(map(_fixed, (0.9642, 1.0, 0.8249))),
        **tags,
    }
    table, data, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        padded = body + bytes(-len(body) % 4)
        table += struct.pack(">4sII", name, at + len(data), len(body))
        data += padded
    head = struct.pack(">I4sI4s4s4s", at + len(data), bytes(4), 0x02400000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(map(_fixed, (0.9642, 1.0, 0.8249)))
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + data
