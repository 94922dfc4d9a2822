"""What is sure to decode decodes; what was damaged anywhere is never called so unless it decodes all the same."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from models.errors import UnreadableImage
from models.imaging.decode import check
from models.imaging.png import parse
from tests.models.imaging.files import chunk

MODES = ("L", "LA", "RGB", "RGBA", "I;16")


def png(mode: str = "RGB", width: int = 43, height: int = 39, **options: Any) -> bytes:
    """A picture of noise."""
    picture = Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8))
    if mode == "I;16":
        picture = Image.fromarray(np.random.default_rng(7).integers(0, 65536, (height, width), np.uint16))
    out = io.BytesIO()
    (picture if mode in ("RGB", "I;16") else picture.convert(mode)).save(out, "PNG", **options)
    return out.getvalue()


def made(rows: bytes, width: int = 20, height: int = 20, *more: bytes) -> bytes:
    """A file whose stream holds `rows`, with correct checksums."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def is_sure(data: bytes) -> bool:
    try:
        return parse(data).is_decodable()
    except UnreadableImage:
        return False


def decodes(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(parse(data).stream)).load()
    except Exception:  # noqa: BLE001 - as in models.imaging.decode
        return False
    return True


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(33, 29), (1, 1), (700, 900)])
def test_whole_files(mode: str, size: tuple[int, int]) -> None:
    assert is_sure(png(mode, *size))


def test_with_text_and_many_chunks_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.MAXBLOCK", 512)
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a portrait" * 100, zip=True)
    data = png(pnginfo=info)
    assert data.count(b"IDAT") > 3
    assert is_sure(data)
    assert is_sure(data + b"something behind the end")


@pytest.mark.parametrize("mode", ["P", "1"])
def test_what_is_left_to_the_decoder(mode: str) -> None:
    assert not is_sure(png(mode))
    check(png(mode))


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n",
        png()[: len(png()) // 2],
        made(b"\0" * 21 * 19),
        made(b"\0" * 21 * 20 + b"\0"),
        made(b"\5" + b"\0" * (21 * 20 - 1)),
        made(b"\0" * 21 * 20, 20, 20, chunk(b"ABCD", b"")),
        made(b"\0" * 21 * 20, 20, 20, chunk(b"IHDR", b"")),
    ],
    ids=["signature", "half", "short", "long", "filter", "unknown", "two headers"],
)
def test_not_whole(data: bytes) -> None:
    assert not is_sure(data)


@pytest.mark.parametrize("data", [png()[:-1], png()[:-12]], ids=["last byte", "no end"])
def test_what_ends_behind_its_pixels_is_whole(data: bytes) -> None:
    assert is_sure(data)


def test_ancillary_chunks_are_left_out_of_the_stream() -> None:
    data = made(b"\0" * 21 * 20, 20, 20, chunk(b"acTL", bytes(8)), chunk(b"IDAT", b""), chunk(b"tEXt", b"a\0b"))
    assert is_sure(data)
    assert parse(data).stream.count(b"tEXt") == parse(data).stream.count(b"acTL") == 0


def test_only_the_first_byte_of_a_row_is_a_filter() -> None:
    assert is_sure(made((b"\4" + b"\5" * 20) * 20))


@given(st.integers(0, 2**32 - 1))
def test_damaged_files_never_pass_unless_they_decode(seed: int) -> None:
    """With checksums set right again, so that only the stream is left to tell."""
    chance = random.Random(seed)
    data = bytearray(png(chance.choice(MODES), chance.randint(1, 40), chance.randint(1, 40)))
    at = data.index(b"IDAT")
    (length,) = struct.unpack_from(">I", data, at - 4)
    for _ in range(chance.randint(1, 3)):
        data[chance.randrange(at + 4, at + 4 + length)] = chance.randrange(256)
    struct.pack_into(">I", data, at + 4 + length, zlib.crc32(bytes(data[at : at + 4 + length])))
    assert not is_sure(bytes(data)) or decodes(bytes(data))


def test_a_damaged_picture_is_refused_as_ever() -> None:
    data = bytearray(png())
    data[len(data) // 2] ^= 1
    with pytest.raises(UnreadableImage, match="damaged"):
        check(bytes(data))
