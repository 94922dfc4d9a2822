"""Whether a picture file is of the format and size that were asked for."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

from PIL import Image

from cli.accept.result import Verdict, judged
from models.imaging.decode import MEDIA_TYPES, ImageFormat

FORMAT: Final = "Format as asked"
SIZE: Final = "Size as asked"


def right_format(data: bytes, media_type: str, wanted: ImageFormat) -> Verdict:
    """Whether `data` is a file of the format `wanted`, and was declared as one."""
    found = _media_type(data)
    passed = found == media_type == MEDIA_TYPES[wanted]
    return judged(FORMAT, passed, f"Asked for {wanted}; the file is {found}, and its Content-Type says {media_type}.")


def right_size(sizes: Sequence[tuple[int, int]], wanted: tuple[int, int]) -> Verdict:
    """Whether all pictures are `wanted` (width, height) px."""
    wrong = sorted({size for size in sizes if size != wanted})
    found = " and ".join(_in_px(size) for size in wrong) if wrong else "so are the pictures"
    return judged(SIZE, not wrong and bool(sizes), f"Asked for {_in_px(wanted)}; {'found ' * bool(wrong)}{found}.")


def _media_type(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.get_format_mimetype() or "of an unknown kind"
    except (OSError, Image.DecompressionBombError):
        return "no picture"


def _in_px(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]} px"
