"""Pictures are encoded as they are asked for: whole, small, without metadata, the same bytes every time."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin
from skimage import data, img_as_ubyte

from models.imaging.decode import MEDIA_TYPES, ImageFormat
from models.imaging.encode import encode, encode_all
from models.imaging.png_encoder import encode_png

Picture = NDArray[np.uint8]
STRIPS = [1, 2, 15, 16, 17, 64, 127, 128, 129, 256, 300]
"""Heights about the borders of strips and bands."""


def opened(encoded: bytes) -> Image.Image:
    return Image.open(io.BytesIO(encoded))


def by_pillow(picture: Picture, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind, **options)
    return out.getvalue()


def painted(kind: str, height: int, width: int, seed: int) -> Picture:
    """A picture of noise, of one colour, of steps, of tiles, or of grey noise."""
    random = np.random.default_rng(seed)
    if kind == "noise":
        return random.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "flat":
        return np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)
    if kind == "steps":
        rows, columns = np.mgrid[0:height, 0:width] * random.integers(1, 90)
        return np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)
    if kind == "tiles":
        tile = random.integers(0, 256, (16, 16, 3), np.uint8)
        return np.tile(tile, (height // 16 + 1, width // 16 + 1, 1))[:height, :width]
    return np.repeat(random.integers(0, 256, (height, width, 1), np.uint8), 3, axis=2)


pictures = st.builds(
    painted,
    st.sampled_from(["noise", "flat", "steps", "tiles", "grey"]),
    st.one_of(st.sampled_from(STRIPS), st.integers(1, 90)),
    st.integers(1, 90),
    st.integers(0, 2**32 - 1),
)


def photo(name: str, width: int, height: int, noise: float = 0) -> Picture:
    """A photograph enlarged to cover `width` x `height`, with `noise` (standard deviation, 0..255) on it."""
    picture = Image.fromarray(getattr(data, name)())
    scale = max(width / picture.width, height / picture.height)
    large = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    pixels = np.asarray(large.crop((0, 0, width, height)), np.float64)
    return np.clip(pixels + np.random.default_rng(0).normal(0, noise, pixels.shape), 0, 255).round().astype(np.uint8)


PHOTOS = {
    "face": photo("astronaut", 1024, 1024),
    "cat": photo("chelsea", 1024, 1024),
    "sky": photo("rocket", 1024, 1024),
    "still life": photo("coffee", 960, 768),
    "grainy face": photo("astronaut", 1024, 1024, noise=6),
}


@pytest.fixture(params=PHOTOS)
def photograph(request: pytest.FixtureRequest) -> Picture:
    return PHOTOS[request.param]


def chunks_of(png: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG file by type, their checksums proven."""
    chunks, position = {}, 8
    while position < len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        chunks[kind] = png[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", png, position + 8 + length)[0] == zlib.crc32(kind + chunks[kind])
        position += 12 + length
    return chunks


@given(pictures)
def test_png_is_exact_for_every_reader(picture: Picture) -> None:
    encoded = encode(picture, "png", 0)
    assert np.array_equal(np.asarray(opened(encoded)), picture)
    read = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read[..., ::-1], picture)


@given(pictures)
def test_png_holds_what_the_standard_asks_and_no_more(picture: Picture) -> None:
    encoded = encode_png(picture)
    chunks = chunks_of(encoded)
    height, width, _ = picture.shape
    assert encoded.startswith(b"\x89PNG\r\n\x1a\n")
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert chunks[b"IHDR"] == struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    assert len(zlib.decompress(chunks[b"IDAT"])) == height * (1 + 3 * width)


@settings(max_examples=60)
@given(pictures, st.sampled_from(sorted(MEDIA_TYPES)), st.integers(0, 100))
def test_every_format_is_whole_and_without_metadata(picture: Picture, image_format: ImageFormat, quality: int) -> None:
    written = opened(encode(picture, image_format, quality))
    written.load()
    assert written.get_format_mimetype() == MEDIA_TYPES[image_format]
    assert (written.mode, written.size) == ("RGB", picture.shape[1::-1])
    assert not written.getexif()
    assert not {"exif", "icc_profile", "comment", "xmp", "XML:com.adobe.xmp", "Software"} & set(written.info)


@pytest.mark.parametrize("image_format", ["jpg", "webp"])
def test_colours_stay_in_their_places(image_format: ImageFormat, photograph: Picture) -> None:
    read = np.asarray(opened(encode(photograph, image_format, 90)), int)
    assert np.abs(read - photograph).mean() < 6


@settings(max_examples=30)
@given(pictures, st.sampled_from(sorted(MEDIA_TYPES)), st.integers(0, 100))
def test_the_same_picture_gives_the_same_bytes(picture: Picture, image_format: ImageFormat, quality: int) -> None:
    encoded = encode(picture, image_format, quality)
    with ThreadPoolExecutor(4) as pool:
        assert encode(picture, image_format, quality, pool.map) == encoded
    for count in (1, 3):
        assert encode_all([picture] * count, image_format, quality) == [encoded] * count


def test_pictures_keep_their_order() -> None:
    several = np.stack([PHOTOS["face"][:200, :200], PHOTOS["cat"][:200, :200], PHOTOS["sky"][:200, :200]])
    for encoded, picture in zip(encode_all(several, "png", 0), several, strict=True):
        assert np.array_equal(np.asarray(opened(encoded)), picture)
    assert encode_all([], "png", 0) == []


def test_views_of_larger_arrays_are_encoded(photograph: Picture) -> None:
    view = photograph[100:400:2, 50:350:3, ::-1]
    assert np.array_equal(np.asarray(opened(encode(view, "png", 0))), view)
    for image_format in ("jpg", "webp"):
        assert encode(view, image_format, 80) == encode(np.ascontiguousarray(view), image_format, 80)


def test_png_of_photographs_is_small(photograph: Picture) -> None:
    assert len(encode(photograph, "png", 0)) <= 1.05 * len(by_pillow(photograph, "PNG"))


@pytest.mark.parametrize("name", ["page", "text", "coins", "logo", "colorwheel", "shepp_logan_phantom", "horse"])
def test_png_of_pictures_with_repeats_is_small(name: str) -> None:
    """Text, drawings and grey: where looking for runs alone would make files half as large again."""
    picture = np.asarray(Image.fromarray(img_as_ubyte(getattr(data, name)())).convert("RGB"))
    assert len(encode(picture, "png", 0)) <= 1.15 * len(by_pillow(picture, "PNG"))


@pytest.mark.parametrize("quality", [0, 80, 100, *(pytest.param(q, marks=pytest.mark.slow) for q in (30, 95, 99))])
def test_webp_is_hardly_larger_than_by_the_default(photograph: Picture, quality: int) -> None:
    assert len(encode(photograph, "webp", quality)) <= 1.15 * len(by_pillow(photograph, "WEBP", quality=quality))


@pytest.mark.parametrize("quality", [0, 1, 50, 80, 100])
def test_jpeg_quality_means_what_it_means_to_pillow(photograph: Picture, quality: int) -> None:
    encoded, expected = (
        encode(photograph, "jpg", quality),
        by_pillow(photograph, "JPEG", quality=quality, optimize=True),
    )
    ours, theirs = opened(encoded), opened(expected)
    assert isinstance(ours, JpegImagePlugin.JpegImageFile) and isinstance(theirs, JpegImagePlugin.JpegImageFile)
    assert ours.quantization == theirs.quantization
    assert JpegImagePlugin.get_sampling(ours) == JpegImagePlugin.get_sampling(theirs) == 2  # 4:2:0
    assert len(encoded) <= 1.02 * len(expected)


@pytest.mark.parametrize("image_format", ["jpg", "webp"])
def test_quality_trades_size(image_format: ImageFormat) -> None:
    noise = painted("noise", 128, 128, 0)
    sizes = [len(encode(noise, image_format, quality)) for quality in (0, 50, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 2
