"""Whether an image file has the format and size that were requested."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

from PIL import Image

from cli.accept.result import CheckResult, passed_if
from models.imaging.decode import MEDIA_TYPES, ImageFormat

FORMAT: Final = "Format as requested"
SIZE: Final = "Size as requested"


def right_format(data: bytes, media_type: str, wanted: ImageFormat) -> CheckResult:
    """Whether `data` and its Content-Type `media_type` are of the format `wanted`."""
    found = _media_type(data)
    passed = found == media_type == MEDIA_TYPES[wanted]
    return passed_if(FORMAT, passed, f"Requested {wanted}; the file is {found}, its Content-Type {media_type}.")


def right_size(sizes: Sequence[tuple[int, int]], wanted: tuple[int, int]) -> CheckResult:
    """Whether all images have the `wanted` (width, height) in px."""
    wrong = sorted({size for size in sizes if size != wanted})
    found = " and ".join(map(_in_px, wrong)) if wrong else "the same" if sizes else "none"
    return passed_if(SIZE, not wrong and bool(sizes), f"Requested {_in_px(wanted)}; found {found}.")


def _media_type(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.get_format_mimetype() or "of an unknown kind"
    except (OSError, Image.DecompressionBombError):
        return "no picture"


def _in_px(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]} px"
