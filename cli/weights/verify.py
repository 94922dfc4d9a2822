"""Reading every installed file again: the one check that finds what decays without a trace."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

from cli.weights.progress import Progress
from models.weights.hashes import HashCache
from models.weights.installed import InstalledFile, read_installed, verify_file


def verify(root: Path, hashes: HashCache, out: TextIO, only: str | None = None, jobs: int = 4) -> tuple[int, list[str]]:
    """Hash all files that the record of `root` names, for one model or all.

    Returns how many there are, and what is wrong with those that are not as recorded. What is found is remembered, so
    that a worker that starts next knows it too. Raises `WeightsError` if there is no record.
    """
    weights = [weight for weight in read_installed(root).weights if only is None or only in weight.used_by]
    files = [file for weight in weights for file in weight.files]
    with Progress("verifying", sum(file.size for file in files), 0, out) as progress, ThreadPoolExecutor(jobs) as pool:
        faults = pool.map(lambda file: _fault(root, file, hashes, progress), files)
        return len(files), [fault for fault in faults if fault]


def _fault(root: Path, file: InstalledFile, hashes: HashCache, progress: Progress) -> str | None:
    fault = verify_file(root, file, hashes, afresh=True)
    progress.add(file.size)
    return fault
