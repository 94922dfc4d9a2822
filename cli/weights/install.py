"""Install a fetched and checked object: unpack, convert, and move each file to its path atomically.

Torch pickles are converted to safetensors here, once: nothing else in the project reads one.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cli.weights.checks import Download, FileInfo
from cli.weights.items import Item
from models.errors import WeightsError
from models.weights.file_errors import file_errors
from models.weights.hashes import HashCache, sha256_of
from models.weights.installed import InstalledFile
from models.weights.lock import WeightFile
from models.weights.objective import markers_of, refuse_markers

_READABLE: Final = 0o644
_CHUNK: Final = 1 << 20
_MAX_UNPINNED: Final = 8 << 30
"""Bytes of a member whose size the lock does not know."""
_GLOBAL: Final = re.compile(r"(?:GLOBAL |class |global: )['\"`]?([\w.]+\w)")
"""What torch says of something in a pickle that is no tensor."""


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
    hashes.put(target, found.sha256)
    return InstalledFile(path=name, size=found.size, sha256=found.sha256)


def _found(path: Path) -> FileInfo:
    return FileInfo(path.stat().st_size, sha256_of(path))


def unpack(archive: Path, file: WeightFile, target: Path, label: str) -> None:
    """Write the member `file.origin` to `target`; names inside the archive never become paths.

    Raises `WeightsError` if there is no such member, it is damaged, or larger than the lock says.
    """
    with file_errors(label), zipfile.ZipFile(archive) as opened:
        if file.origin not in opened.namelist():
            raise WeightsError(f"it has no member {file.origin}.")
        info = opened.getinfo(file.origin)
        limit = file.size if file.size is not None else _MAX_UNPINNED
        if info.file_size > limit:
            raise WeightsError(f"{file.origin} has {info.file_size:,} bytes, {limit:,} are allowed.")
        _copy(opened, info, target)


def _copy(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    # The reader itself stops at the size that the archive's directory claims, which was checked.
    with opened.open(info) as member, target.open("wb") as out:
        while chunk := member.read(_CHUNK):
            out.write(chunk)


def convert(source: Path, target: Path, label: str) -> None:
    """Write the tensors of the pickle `source` to the safetensors file `target`; the same bytes each time.

    A state dict inside `{"state_dict": …}` is taken out. Only tensors are unpickled: what holds anything else is
    refused with `WeightFileError`, which calls the file `label`.
    """
    from safetensors.torch import save_file  # torch takes seconds to load, and is rarely needed here

    with file_errors(label):
        tensors = _own_memory(_unwrapped(_read(source)))
        save_file(tensors, target, metadata={"format": "pt"})
    target.chmod(_READABLE)


def _read(source: Path) -> Any:
    import torch

    try:
        # Files from before torch 1.6 are no archives and cannot be mapped.
        return torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
    except (pickle.UnpicklingError, EOFError) as error:
        # Not torch's own words, which go on to recommend loading the file without that restriction.
        named = _GLOBAL.search(str(error))
        besides = f" ({named[1]})" if named else ""
        raise WeightsError(f"not a pickle of tensors alone{besides}, and not loaded.") from error


def _unwrapped(state: Any) -> Any:
    return state["state_dict"] if isinstance(state, Mapping) and "state_dict" in state else state


def _own_memory(state: Any) -> dict[str, Any]:
    """Every tensor contiguous and in memory of its own, as safetensors wants them."""
    import torch

    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError("it holds more than a state dict of tensors, and is not loaded.")
    tensors, seen = {}, set()
    for key, value in state.items():
        tensor = value.detach().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(storage.data_ptr())
        tensors[str(key)] = tensor
    return tensors
