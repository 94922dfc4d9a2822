"""Encoded pictures in, RGB in memory; what both ends must know of formats. Free of torch; `models.encoding` writes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.errors import UnreadableImage
from models.picture_memory import MAX_SCANS, bytes_per_pixel, has_too_many_scans
from models.png_integrity import is_whole_png

ImageFormat = Literal["webp", "jpg", "png"]

MEDIA_TYPES: Final[dict[ImageFormat, str]] = {"webp": "image/webp", "jpg": "image/jpeg", "png": "image/png"}
"""The truthful media type of every output format."""

MAX_BYTES: Final = 20 * 1024 * 1024
MAX_PIXELS: Final = 25_000_000
MAX_MEMORY: Final = 200_000_000
"""Bytes that decoding may take: WebP and JPEG of several scans reach it before `MAX_PIXELS`."""
MIN_SIDE: Final = 16
_TOO_MANY_PIXELS: Final = f"The image has more than {MAX_PIXELS // 1_000_000} megapixels."
_BLOCK: Final = 64 * 1024 * 1024
_STRIP: Final = 256
"""Rows converted at a time."""
_DAMAGED: Final = "The image file is damaged or cut short."
_ACCEPTED: Final = ("JPEG", "PNG", "WEBP")

# Pillow clears the memory of a new picture while it keeps the interpreter's lock, 10 ms for one of 12 megapixels.
# Blocks of more than 32 MB always come from the kernel, which hands them out clear.
Image.core.set_block_size(_BLOCK)  # type: ignore[attr-defined]  # as PILLOW_BLOCK_SIZE does


def open_checked(data: bytes) -> Image.Image:
    """Open an encoded picture without decoding its pixels.

    Raises `UnreadableImage` if it is larger than `MAX_BYTES` or `MAX_PIXELS`, would take more than `MAX_MEMORY`, has a
    side under `MIN_SIDE` px, or is not JPEG, PNG or WebP: all of that is told from the header, so a decompression bomb
    costs nothing.
    """
    if not data:
        raise UnreadableImage("The image is empty.")
    if len(data) > MAX_BYTES:
        raise UnreadableImage(f"The image is larger than {MAX_BYTES // 1024**2} MB.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the pixel limit below is stricter
            picture = Image.open(io.BytesIO(data), formats=_ACCEPTED)
    except Image.DecompressionBombError:
        raise UnreadableImage(_TOO_MANY_PIXELS) from None
    except Exception as error:  # Pillow's parsers raise many kinds on hostile bytes: all mean "not a picture"
        raise UnreadableImage("The image is not a readable JPEG, PNG or WebP file.") from error
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise UnreadableImage(_TOO_MANY_PIXELS)
    _check_memory(picture, data)
    if min(width, height) < MIN_SIDE:
        raise UnreadableImage(f"The image is {width} x {height} pixels; each side must have at least {MIN_SIDE}.")
    return picture


def _check_memory(picture: Image.Image, data: bytes) -> None:
    if has_too_many_scans(picture, data):
        raise UnreadableImage(f"The JPEG file has more than {MAX_SCANS} scans.")
    cost = bytes_per_pixel(picture, data)
    if picture.width * picture.height * cost > MAX_MEMORY:
        kind = "progressive JPEG" if picture.format == "JPEG" else str(picture.format)
        raise UnreadableImage(f"The image is a {kind} of more than {MAX_MEMORY / cost / 1e6:.1f} megapixels.")


def check(data: bytes) -> None:
    """Make sure that an encoded picture can be decoded; raises `UnreadableImage` as `decode` does."""
    picture = open_checked(data)
    if is_whole_png(data):
        return
    try:
        picture.load()
    except Exception as error:  # as in open_checked
        raise UnreadableImage(_DAMAGED) from error


def decode(data: bytes) -> Image.Image:
    """Decode an encoded picture as it is meant to be seen: every mode it may have, orientation applied once.

    The mode is left as the file has it (palette, grey, alpha, 16 bit): how to come to RGB is the model's choice.
    Raises `UnreadableImage`, also for files cut short.
    """
    picture = open_checked(data)
    try:
        picture.load()
        return ImageOps.exif_transpose(picture)
    except Exception as error:  # as in open_checked
        raise UnreadableImage(_DAMAGED) from error


def to_rgb8(picture: Image.Image) -> Image.Image:
    """Convert any mode to 8-bit RGB. Alpha is dropped, not composited; 16-bit grey keeps its upper 8 bits."""
    return to_8_bit(picture).convert("RGB")


def to_8_bit(picture: Image.Image) -> Image.Image:
    """Reduce grey of more than 8 bits to its upper 8; leave every other mode as it is."""
    if not (picture.mode.startswith("I") or picture.mode == "F"):
        return picture
    grey = np.asarray(picture)
    if grey.max(initial=0) > 255:
        grey = grey // 257
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8), mode="L")


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
