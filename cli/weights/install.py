"""Install a fetched and checked object: unpack, convert, and move each file to its path atomically."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cli.weights.archive import unpack
from cli.weights.checks import Download, FileInfo
from cli.weights.items import Item
from cli.weights.pickles import convert
from models.errors import WeightsError
from models.weights.file_errors import file_errors
from models.weights.hashes import HashCache, sha256_of
from models.weights.installed import InstalledFile
from models.weights.lock import WeightFile
from models.weights.objective import markers_of, refuse_markers

_READABLE: Final = 0o644


def install(item: Item, part: Path, found: FileInfo, root: Path, hashes: HashCache) -> list[InstalledFile]:
    """Install `part` below `root`; returns the installed files. Raises `WeightsError`."""
    if item.is_archive:
        files = [_unpacked(item, file, part, root, hashes) for file in item.files]
        part.unlink()
        return files
    (file,) = item.files
    installed = _converted_or_not(file, part, found, root, hashes, item.label)
    part.unlink(missing_ok=True)
    return [installed]


def extra_space(download: Download) -> int:
    """Bytes on the disk that installing an object needs besides the object itself."""
    item = download.item
    if item.is_archive:
        return sum(file.size or 0 for file in item.files)
    return (download.expected.size or 0) if item.files[0].converted else 0


def _unpacked(item: Item, file: WeightFile, part: Path, root: Path, hashes: HashCache) -> InstalledFile:
    product = part.with_suffix(".unpacked")
    unpack(part, file, product, item.label)
    found = _found(product)
    if file.pinned and (found.size, found.sha256) != (file.size or found.size, file.sha256):
        product.unlink()
        raise WeightsError(
            f"{item.label}: {file.origin} is damaged: {found.size:,} bytes with sha256 {found.sha256}, "
            f"where sha256 {file.sha256} is expected."
        )
    return _converted_or_not(file, product, found, root, hashes, f"{item.label}: {file.origin}")


def _converted_or_not(
    file: WeightFile, product: Path, found: FileInfo, root: Path, hashes: HashCache, label: str
) -> InstalledFile:
    """Convert a file if it is a pickle, and install it; raises `WeightFileError` if it cannot be used."""
    if not file.converted:
        return _move_into_place(product, found, file.path, root, hashes, label)
    tensors = product.with_suffix(".converted")
    convert(product, tensors, label)
    installed = _move_into_place(tensors, _found(tensors), file.path, root, hashes, label)
    product.unlink()
    return installed.model_copy(update={"origin_size": found.size, "origin_sha256": found.sha256})


def _move_into_place(
    product: Path, found: FileInfo, name: str, root: Path, hashes: HashCache, label: str
) -> InstalledFile:
    with file_errors(label):
        refuse_markers(markers_of(product))
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    product.chmod(_READABLE)
    with product.open("rb") as file:
        os.fsync(file.fileno())
    product.replace(target)
    hashes.remember(target, found.sha256)
    return InstalledFile(path=name, size=found.size, sha256=found.sha256)


def _found(path: Path) -> FileInfo:
    return FileInfo(path.stat().st_size, sha256_of(path))
