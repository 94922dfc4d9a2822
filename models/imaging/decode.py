"""Encoded pictures in, RGB in memory; what both ends must know of formats. Free of torch; `models.imaging.encode`
writes.

Gateway and worker read a file by the same steps: it is parsed, its pixels alone are decoded, and metadata only
tells what may be done with them afterwards. So what `check` accepts `decode` reads.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import UnreadableImage
from models.imaging import heif, jpeg, orientation, png, webp
from models.imaging.colour import to_srgb
from models.imaging.picture_file import Format, PictureFile, format_of

ImageFormat = Literal["webp", "jpg", "png"]

MEDIA_TYPES: Final[dict[ImageFormat, str]] = {"webp": "image/webp", "jpg": "image/jpeg", "png": "image/png"}
"""The truthful media type of every output format."""
FILE_EXTENSIONS: Final[dict[Format, str]] = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "HEIC": "heic",
    "AVIF": "avif",
}
"""Of files of every format that is read."""
FILE_MEDIA_TYPES: Final[dict[str, str]] = {
    **{str(extension): media_type for extension, media_type in MEDIA_TYPES.items()},
    "heic": "image/heic",
    "avif": "image/avif",
}
"""By extension: results, and uploads, which come in more formats."""

MAX_BYTES: Final = 20 * 1024 * 1024
MAX_PIXELS: Final = 25_000_000
MAX_MEMORY: Final = 200_000_000
"""Bytes that decoding may take: WebP, AVIF and JPEG of several scans reach it before `MAX_PIXELS`."""
MIN_SIDE: Final = 32
_TOO_MANY_PIXELS: Final = f"The image has more than {MAX_PIXELS // 1_000_000} megapixels."
_BLOCK: Final = 64 * 1024 * 1024
_STRIP: Final = 256
"""Rows converted at a time."""
_DAMAGED: Final = "The image file is damaged or cut short."
_NAMES: Final[dict[Format, str]] = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "HEIC": "HEIC", "AVIF": "AVIF"}
_PARSERS: Final[dict[Format, Callable[[bytes], PictureFile]]] = {
    "JPEG": jpeg.parse,
    "PNG": png.parse,
    "WEBP": webp.parse,
}

# Pillow clears the memory of a new picture while it keeps the interpreter's lock, 10 ms for one of 12 megapixels.
# Blocks of more than 32 MB always come from the kernel, which hands them out clear.
Image.core.set_block_size(_BLOCK)  # type: ignore[attr-defined]  # as PILLOW_BLOCK_SIZE does


def detect_format(data: bytes) -> Format:
    """The format of a file, from its first bytes; raises `UnreadableImage` if it is none that is accepted."""
    if not data:
        raise UnreadableImage("The image is empty.")
    if len(data) > MAX_BYTES:
        raise UnreadableImage(f"The image is larger than {MAX_BYTES // 1024**2} MB.")
    kind = format_of(data)
    if kind is None:
        raise UnreadableImage("The image is not a readable JPEG, PNG, WebP, HEIC or AVIF file.")
    return kind


def check(data: bytes) -> None:
    """Make sure that an encoded picture can be decoded; raises `UnreadableImage` as `decode` does."""
    kind = detect_format(data)
    if kind == "HEIC" or kind == "AVIF":
        _check_size(heif.load(data, kind, MAX_PIXELS, MAX_MEMORY, with_pixels=False).size)
        return
    file, picture = _open(data, kind)
    if not file.is_decodable():
        _load(picture)


def decode(data: bytes) -> Image.Image:
    """Decode an encoded picture as it is meant to be seen: every mode it may have, upright, in sRGB.

    The mode is left as the file has it (palette, grey, alpha, 16-bit grey) as far as its colours allow: how to come to
    RGB is the model's choice. Raises `UnreadableImage`, also for files cut short. Of metadata nothing is left.
    """
    kind = detect_format(data)
    if kind == "HEIC" or kind == "AVIF":
        found = heif.load(data, kind, MAX_PIXELS, MAX_MEMORY, with_pixels=True)
        _check_size(found.size)
        assert found.pixels is not None
        return orientation.apply(to_srgb(found.pixels, found.profile), found.orientation)
    file, picture = _open(data, kind)
    _load(picture)
    transparency = picture.info.get("transparency") if file.transparency is None else file.transparency
    picture.info = {} if transparency is None else {"transparency": transparency}
    if picture.mode.startswith("I;16") and (transparency is not None or file.profile):
        picture = _with_alpha(picture)
    turned = orientation.orientation_of(file.exif, file.xmp)
    return orientation.apply(to_srgb(picture, file.profile), turned)


def size_in_header(data: bytes) -> tuple[int, int] | None:
    """(width, height) in px that a file claims, if it is known without decoding it; raises as `check` does."""
    kind = detect_format(data)
    return None if kind == "HEIC" or kind == "AVIF" else _open(data, kind)[1].size


def _open(data: bytes, kind: Format) -> tuple[PictureFile, Image.Image]:
    """Parse a file and read its header, which tells a decompression bomb, so that one costs nothing."""
    file = _PARSERS[kind](data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the pixel limit below is stricter
            picture = Image.open(io.BytesIO(file.stream), formats=[kind])
    except Image.DecompressionBombError:
        raise UnreadableImage(_TOO_MANY_PIXELS) from None
    except Exception as error:  # Pillow's parsers raise many kinds on hostile bytes: all mean "not a picture"
        raise UnreadableImage(f"The image is not a readable {_NAMES[kind]} file.") from error
    _check_size(picture.size)
    if picture.width * picture.height * file.bytes_per_pixel > MAX_MEMORY:
        name = "progressive JPEG" if kind == "JPEG" else _NAMES[kind]
        largest = MAX_MEMORY / file.bytes_per_pixel / 1e6
        raise UnreadableImage(f"The image is a {name} of more than {largest:.1f} megapixels.")
    return file, picture


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise UnreadableImage(_TOO_MANY_PIXELS)
    if min(width, height) < MIN_SIDE:
        raise UnreadableImage(f"The image is {width} x {height} pixels; each side must have at least {MIN_SIDE}.")


def _load(picture: Image.Image) -> None:
    try:
        picture.load()
    except Exception as error:  # as in _open
        raise UnreadableImage(_DAMAGED) from error


def to_rgb8(picture: Image.Image) -> Image.Image:
    """Convert any mode to 8-bit RGB. Alpha is dropped, not composited; 16-bit grey is scaled to 8 bits."""
    return to_8_bit(picture).convert("RGB")


def to_8_bit(picture: Image.Image) -> Image.Image:
    """Scale grey of 16 bits to 8; leave every other mode as it is."""
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray((np.asarray(picture) // 257).astype(np.uint8), mode="L")


def _with_alpha(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8; a transparent level, which Pillow would drop, becomes alpha."""
    grey = to_8_bit(picture)
    level = picture.info.get("transparency")
    if level is not None:
        grey.putalpha(Image.fromarray(np.where(np.asarray(picture) == level, 0, 255).astype(np.uint8)))
    return grey


def to_pixels(picture: Image.Image, convert: Callable[[Image.Image], Image.Image] = to_rgb8) -> NDArray[np.uint8]:
    """RGB pixels [height, width, 3] of a picture of any mode, which `convert` brings to 8-bit RGB strip by strip.

    In strips, so that a large picture is never in memory in a third form besides these two.
    """
    picture = to_8_bit(picture)
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    for top in range(0, picture.height, _STRIP):
        bottom = min(top + _STRIP, picture.height)
        pixels[top:bottom] = np.asarray(convert(picture.crop((0, top, picture.width, bottom))))
    return pixels
