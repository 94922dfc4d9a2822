"""Filling a mirror on a machine with a network, for those without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from cli.weights.checks import Download, FileInfo
from cli.weights.fetch import Report
from cli.weights.items import items_of
from cli.weights.mirror import read_sums, write_sums
from cli.weights.transfers import Source, Transfers
from models.weights.hashes import sha256_of
from models.weights.lock import Weight


def fill_mirror(weights: Sequence[Weight], root: Path, source: Source, out: TextIO, jobs: int = 4) -> Report:
    """Put the objects of `weights` into the mirror at `root`; those that are there and right stay.

    Raises `WeightsError` if the disk cannot hold them.
    """
    transfers, sums = Transfers(source, root, jobs, out), read_sums(root)
    downloads, failures = transfers.locate(item for weight in weights for item in items_of(weight))
    files = len(downloads) + len(failures)
    to_fetch = [download for download in downloads if not _is_there(download, root, sums.get(_name(download)))]
    transfers.check_space(to_fetch, 0)
    completed: list[str] = []

    def done(download: Download, sha256: str) -> None:
        sums[_name(download)] = sha256
        write_sums(root, sums)
        completed.append(download.item.label)

    if to_fetch:
        failures += transfers.run(
            "fetching", to_fetch, lambda download, part, found: _keep(download, part, found, root), done
        )
    return Report(completed, failures, files)


def _name(download: Download) -> str:
    return download.item.mirror_path.as_posix()


def _is_there(download: Download, root: Path, listed: str | None) -> bool:
    path = root / download.item.mirror_path
    return listed is not None and path.is_file() and sha256_of(path) == (download.expected.sha256 or listed)


def _keep(download: Download, part: Path, found: FileInfo, root: Path) -> str:
    target = root / download.item.mirror_path
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)
    return found.sha256
