"""RGB in memory, encoded pictures out. For workers: it needs OpenCV and zlib-ng, which gateways do without.

Encoding runs beside the thread that feeds the device, so speed is half of it; the other half is that no encoder keeps
the interpreter's lock for longer than a few milliseconds. bench/cpu_encoding.py measures both.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.imaging.decode import ImageFormat
from models.imaging.png_encoder import Map, encode_png

Picture = NDArray[np.uint8]
"""RGB, 8 bit, [height, width, 3]."""

_FAST: Final = 2
_THOROUGH: Final = 4
"""libwebp's methods, of 0 to 6; 4 is its default."""


def encode(pixels: Picture, image_format: ImageFormat, quality: int, each: Map = map) -> bytes:
    """Encode one RGB picture [height, width, 3]; `quality` 0..100 applies to webp and jpg. No metadata is written.

    The same pixels, format and quality give the same bytes. PNG is made in strips, which `each` may share out.
    """
    if image_format == "png":
        return encode_png(pixels, each)
    return _encode_jpeg(pixels, quality) if image_format == "jpg" else _encode_webp(pixels, quality)


def encode_all(pictures: Iterable[Picture], image_format: ImageFormat, quality: int) -> list[bytes]:
    """Encode several pictures side by side, or one in strips, on all cores but the one that feeds the device."""
    waiting = list(pictures)
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)) - 1), thread_name_prefix="encode") as pool:
        if len(waiting) == 1:
            return [encode(waiting[0], image_format, quality, pool.map)]
        return list(pool.map(partial(encode, image_format=image_format, quality=quality), waiting))


def _encode_jpeg(pixels: Picture, quality: int) -> bytes:
    """Baseline, 4:2:0, Huffman tables made for the picture: the bytes that Pillow writes, which keeps the lock."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    return bytes(data)


def _encode_webp(pixels: Picture, quality: int) -> bytes:
    """Lossy WebP by libwebp's method 2: 0.4 of the default's time and 1.03 to 1.12 of its size.

    Only at quality 100 the files would be up to 1.4 times as large.
    """
    out = io.BytesIO()
    Image.fromarray(pixels, mode="RGB").save(out, "WEBP", quality=quality, method=_FAST if quality < 100 else _THOROUGH)
    return out.getvalue()
