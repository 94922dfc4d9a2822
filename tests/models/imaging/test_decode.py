"""Pictures are checked before they are decoded, and decoded as they are meant."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.errors import UnreadableImage
from models.imaging.decode import MAX_BYTES, MAX_PIXELS, check, decode, size_in_header, to_rgb8

pillow_heif.register_heif_opener()  # for writing; what is tested does without


def saved(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def gradient(width: int = 40, height: int = 34) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 6, columns * 5, rows + columns], axis=-1).astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing: what a decompression bomb looks like from outside."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "HEIF"])
def test_the_five_formats_are_read(kind: str) -> None:
    assert to_rgb8(decode(saved(gradient(), kind))).size == (40, 34)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(UnreadableImage, match="JPEG, PNG, WebP, HEIC or AVIF"):
        decode(saved(gradient(), kind))


def test_a_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(UnreadableImage, match="25 megapixels"):
        check(png_header(30_000, 30_000))


def test_limits_are_told() -> None:
    with pytest.raises(UnreadableImage, match="20 MB"):
        check(b"x" * (MAX_BYTES + 1))
    with pytest.raises(UnreadableImage, match="at least"):
        check(saved(gradient(31, 40)))
    with pytest.raises(UnreadableImage, match="empty"):
        check(b"")
    side = int(MAX_PIXELS**0.5)
    assert size_in_header(png_header(side, side)) == (side, side)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "HEIF"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    whole = saved(Image.effect_noise((200, 200), 80).convert("RGB"), kind)
    with pytest.raises(UnreadableImage):
        decode(whole[: len(whole) // 2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation: int) -> None:
    upright = gradient(40, 34)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(back[orientation])) if orientation in back else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(saved(stored, "PNG", exif=exif.tobytes()))
    assert np.array_equal(np.asarray(picture), np.asarray(upright))
    assert not picture.getexif().get(0x0112, 0) > 1


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1", "RGB"])
def test_every_mode_comes_to_rgb(mode: str) -> None:
    picture = to_rgb8(decode(saved(gradient().convert(mode))))
    assert (picture.mode, picture.size) == ("RGB", (40, 34))


def test_cmyk_comes_to_rgb() -> None:
    assert to_rgb8(decode(saved(gradient().convert("CMYK"), "JPEG"))).mode == "RGB"


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    levels = np.linspace(0, 65_535, 40 * 34).reshape(34, 40).astype(np.uint16)
    picture = to_rgb8(decode(saved(Image.fromarray(levels))))
    expected = np.round(levels / 257.0)
    assert np.abs(np.asarray(picture)[..., 0] - expected).max() <= 1


@given(st.binary(max_size=200), st.sampled_from(["PNG", "JPEG", "WEBP"]), st.integers(0, 300), st.integers(0, 255))
def test_damaged_bytes_are_refused_or_read(noise: bytes, kind: str, position: int, value: int) -> None:
    """Whatever the bytes, there is a picture or an `UnreadableImage`, and nothing else."""
    damaged = bytearray(saved(gradient(), kind))
    damaged[position % len(damaged)] = value
    for data in (noise, bytes(damaged)):
        try:
            assert to_rgb8(decode(data)).mode == "RGB"
        except UnreadableImage as refusal:
            assert str(refusal)
