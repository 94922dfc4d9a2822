"""Fetch missing weights: download, check, convert, install and record them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from cli.weights.checks import Download, git_sha1_of
from cli.weights.install import extra_space, install
from cli.weights.items import Item, items_of, source_name
from cli.weights.selection import slot_of
from cli.weights.state import by_name, installed_in, is_current
from cli.weights.transfers import PARTS, Source, Transfers
from models.errors import WeightsError
from models.weights.hashes import HashCache
from models.weights.installed import InstalledFile, InstalledWeight, write_installed
from models.weights.lock import Weight


@dataclass(frozen=True)
class Report:
    """Weights that are complete now, and messages of failures; `files` is the number of objects of the run."""

    completed: Sequence[str]
    failures: Sequence[str]
    files: int = field(default=0, compare=False)


def missing(weights: Iterable[Weight], root: Path, hashes: HashCache) -> list[Weight]:
    """Those of `weights` that `root` does not hold as the lock names them. Raises `WeightsError`."""
    record = installed_in(root)
    if record.kind == "demo":
        raise WeightsError(f"{root} holds demo weights; choose another folder with FACELIGHT_WEIGHTS_DIR.")
    return [weight for weight in weights if not is_current(by_name(record).get(weight.name), weight, root, hashes)]


def fetch(
    weights: Sequence[Weight], root: Path, hashes: HashCache, source: Source, out: TextIO, jobs: int = 4
) -> Report:
    """Fetch `weights` into `root`; each is recorded as soon as it is complete, so that a killed run loses nothing.

    Raises `WeightsError` if the disk cannot hold them; what goes wrong with single objects is in the report.
    """
    transfers = Transfers(source, root, jobs, out)
    downloads, failures = transfers.locate(item for weight in weights for item in items_of(weight))
    files = len(downloads) + len(failures)
    recorder = _Recorder(root, weights)
    to_fetch = [
        download for download in downloads if not recorder.add(download.item, _existing_files(download, root, hashes))
    ]
    transfers.check_space(to_fetch, sum(extra_space(download) for download in to_fetch))
    if to_fetch:
        failures += transfers.run(
            "fetching",
            to_fetch,
            finish=lambda download, part, found: install(download.item, part, found, root, hashes),
            done=lambda download, files: recorder.add(download.item, files),
        )
    return Report(recorder.completed, failures, files)


def unused_files(root: Path) -> dict[str, int]:
    """Files below `root` that belong to no recorded weight, with their sizes in bytes: earlier choices."""
    recorded = {file.path for weight in installed_in(root).weights for file in weight.files}
    found = {path.relative_to(root).as_posix(): path for path in root.glob("*/**/*") if path.is_file()}
    return {
        name: path.stat().st_size
        for name, path in sorted(found.items())
        if name not in recorded and not name.startswith(PARTS)
    }


class _Recorder:
    """Collects the files of each weight, and records the weight once it has all of them."""

    def __init__(self, root: Path, weights: Iterable[Weight]) -> None:
        self._root = root
        self._files: dict[str, list[InstalledFile]] = {weight.name: [] for weight in weights}
        self.completed: list[str] = []

    def add(self, item: Item, files: Sequence[InstalledFile]) -> bool:
        """Add the installed files of an object; False if there are none."""
        weight, found = item.weight, self._files[item.weight.name]
        found += files
        if files and len(found) == len(weight.files):
            _record(self._root, weight, found)
            self.completed.append(weight.name)
        return bool(files)


def _record(root: Path, weight: Weight, files: Iterable[InstalledFile]) -> None:
    """Record `weight` in the folder, instead of what filled its slot before."""
    entry = InstalledWeight(
        name=weight.name,
        role=weight.role,
        path=weight.path,
        used_by=weight.used_by,
        licence=weight.licence,
        source=source_name(weight),
        files=sorted(files, key=lambda file: file.path),
    )
    others = [other for other in installed_in(root).weights if slot_of(other.role) != slot_of(weight.role)]
    write_installed(root, sorted([*others, entry], key=lambda entry: (entry.used_by, entry.role)), "real")


def _existing_files(download: Download, root: Path, hashes: HashCache) -> list[InstalledFile]:
    """Files of an object that are already installed; empty unless all of them are as expected."""
    found = [_as_published(download, file.path, root, hashes) for file in download.item.files if not file.converted]
    files = [file for file in found if file is not None]
    return files if len(files) == len(download.item.files) else []


def _as_published(download: Download, name: str, root: Path, hashes: HashCache) -> InstalledFile | None:
    path, file = root / name, next(file for file in download.item.files if file.path == name)
    archived = download.item.is_archive
    size = file.size if archived else download.expected.size
    if not path.is_file() or path.stat().st_size != size:
        return None
    sha256 = hashes.sha256(path)
    expected = (file.sha256 if file.pinned else None) if archived else download.expected.sha256
    if sha256 == expected or (expected is None and not archived and download.expected.git_sha1 == git_sha1_of(path)):
        return InstalledFile(path=name, size=path.stat().st_size, sha256=sha256)
    return None
