"""Finding what can be checked below a folder.

PuLID vectors are known by the name of their file, IC-Light sets by the folders they hold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from tests.parity import iclight, pulid
from tests.parity.report import Row, failed

Check = Callable[[], Iterable[Row]]
"""Runs one golden file or case through the project and compares."""

_ICLIGHT_PARTS: Final = {"cases", "unit", "weights"}


def discover(root: Path, device: torch.device) -> Iterator[tuple[str, Check]]:
    """Everything below `root` that can be checked, with its name relative to `root`."""
    for folder, subfolders, _ in os.walk(root, followlinks=True):
        here = Path(folder)
        found = list(pulid.checks(here, device))
        if _ICLIGHT_PARTS & set(subfolders):
            found.extend(iclight.checks(here, device))
        subfolders[:] = sorted(set(subfolders) - _ICLIGHT_PARTS)
        yield from ((str((here / name).relative_to(root)), check) for name, check in found)


def run(root: Path, device: torch.device) -> Iterator[Row]:
    """Check everything below `root`, one row for every comparison; what raises or compares nothing is a failure."""
    for name, check in discover(root, device):
        rows = 0
        try:
            for row in check():
                rows += 1
                yield _named(name, row)
        # Whatever goes wrong with one file, unreadable or not fitting, must show and must not hide the others.
        except Exception as error:  # noqa: BLE001
            yield failed(name, f"{type(error).__name__}: {error}")
        else:
            if not rows:
                yield failed(name, "nothing was compared")


def _named(name: str, row: Row) -> Row:
    return replace(row, name=f"{name}: {row.name}" if row.name else name)
