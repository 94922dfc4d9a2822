"""Conditional and partial requests for files that never change (RFC 9110 sections 13 and 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from server.errors import RangeNotSatisfiable

_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True)
class Part:
    """`length` bytes of a file from byte `start` on."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """The Content-Range header of this part of a file of `size` bytes."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def parse_range(header: str | None, size: int) -> Part | None:
    """The part that a Range header asks for; None for the whole file.

    What is malformed is ignored, and so are several ranges at once, as a server may. Raises `RangeNotSatisfiable`.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start, stop = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
        if found[2] and int(found[2]) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiable("The file ends before that range.", headers={"Content-Range": f"bytes */{size}"})
    return Part(start, stop - start)


def matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names the file's entity tag."""
    tags = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return etag in tags or "*" in tags
