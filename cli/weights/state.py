"""How what is installed stands to what the lock names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from cli.weights.items import source_name
from models.weights.hashes import HashCache
from models.weights.installed import (
    INSTALLED_NAME,
    Installed,
    InstalledFile,
    InstalledWeight,
    read_installed,
    verify_file,
)
from models.weights.lock import Weight

State = Literal["verified", "present", "outdated", "damaged", "absent"]
"""`present`: all files have their sizes, but were not hashed since they changed; `outdated`: the lock names others."""


def installed_in(root: Path) -> Installed:
    """The record of the folder `root`; an empty one if there is none yet. Raises `WeightsError` if it is malformed."""
    if (root / INSTALLED_NAME).exists():
        return read_installed(root)
    return Installed(kind="real", weights=[])


def by_name(record: Installed) -> dict[str, InstalledWeight]:
    """The weights of a record by their names."""
    return {weight.name: weight for weight in record.weights}


def matches(installed: InstalledWeight | None, weight: Weight) -> bool:
    """Whether a record's entry is of the very files that the lock's entry names."""
    if installed is None or (installed.name, installed.role, installed.path) != (weight.name, weight.role, weight.path):
        return False
    files = {file.path: file for file in installed.files}
    if files.keys() != {file.path for file in weight.files}:
        return False
    # Of an unpinned file the lock knows no more than where it comes from.
    same_source = installed.source == source_name(weight)
    return all(file.sha256 == files[file.path].published[1] if file.pinned else same_source for file in weight.files)


def is_current(installed: InstalledWeight | None, weight: Weight, root: Path, hashes: HashCache) -> bool:
    """Whether nothing is left to do for `weight`: recorded as the lock has it, and every file as recorded."""
    if installed is None or not matches(installed, weight):
        return False
    return not any(verify_file(root, file, hashes) for file in installed.files)


def state_of(weight: Weight, record: Mapping[str, InstalledWeight], root: Path, hashes: HashCache) -> State:
    """State of one weight, from its record: no weight file is read."""
    installed = record.get(weight.name)
    if installed is None:
        return "absent"
    if not matches(installed, weight):
        return "outdated"
    found = [_quick_state(root / file.path, file, hashes) for file in installed.files]
    return "damaged" if "damaged" in found else "present" if "present" in found else "verified"


def _quick_state(path: Path, file: InstalledFile, hashes: HashCache) -> State:
    if not path.is_file() or path.stat().st_size != file.size:
        return "damaged"
    digest = hashes.get(path)
    return "present" if digest is None else "verified" if digest == file.sha256 else "damaged"
