"""Filling a mirror on a machine with a network, for those without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from cli.weights.checks import Found, Task
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
    tasks, failures = transfers.locate(item for weight in weights for item in items_of(weight))
    files = len(tasks) + len(failures)
    waiting = [task for task in tasks if not _is_there(task, root, sums.get(_name(task)))]
    transfers.check_space(waiting, 0)
    completed: list[str] = []

    def done(task: Task, sha256: str) -> None:
        sums[_name(task)] = sha256
        write_sums(root, sums)
        completed.append(task.item.label)

    if waiting:
        failures += transfers.run("fetching", waiting, lambda task, part, found: _keep(task, part, found, root), done)
    return Report(completed, failures, files)


def _name(task: Task) -> str:
    return task.item.mirror_path.as_posix()


def _is_there(task: Task, root: Path, listed: str | None) -> bool:
    path = root / task.item.mirror_path
    return listed is not None and path.is_file() and sha256_of(path) == (task.expected.sha256 or listed)


def _keep(task: Task, part: Path, found: Found, root: Path) -> str:
    target = root / task.item.mirror_path
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)
    return found.sha256
