"""Taking files out of a zip: the listed members only, each to its listed place."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

from models.errors import WeightsError
from models.weights.file_errors import file_errors
from models.weights.lock import WeightFile

_CHUNK: Final = 1 << 20
_MOST: Final = 8 << 30
"""Bytes of a member whose size the lock does not know."""


def unpack(archive: Path, file: WeightFile, target: Path, label: str) -> None:
    """Write the member `file.origin` to `target`; names inside the archive never become paths.

    Raises `WeightsError` if there is no such member, it is damaged, or larger than the lock says.
    """
    with file_errors(label), zipfile.ZipFile(archive) as opened:
        if file.origin not in opened.namelist():
            raise WeightsError(f"it has no member {file.origin}.")
        info = opened.getinfo(file.origin)
        limit = file.size if file.size is not None else _MOST
        if info.file_size > limit:
            raise WeightsError(f"{file.origin} has {info.file_size:,} bytes, {limit:,} are allowed.")
        _copy(opened, info, target)


def _copy(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    # The reader itself stops at the size that the archive's directory claims, which was checked.
    with opened.open(info) as member, target.open("wb") as out:
        while chunk := member.read(_CHUNK):
            out.write(chunk)
