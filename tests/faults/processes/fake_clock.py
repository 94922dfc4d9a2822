"""A wall clock that a test can set: `time.time` of this process, moved by the seconds that a file holds."""

from __future__ import annotations

import time
from pathlib import Path

from workers.settings import CommonSettings, read_settings


def install(name: str) -> None:
    """Move this process' wall clock by what stands in `clock-<name>` of the data folder, at every look anew."""
    path = read_settings(CommonSettings).data_dir / f"clock-{name}"
    true_time = time.time
    time.time = lambda: true_time() + _shift(path)


def set_clock(data_dir: Path, name: str, shift_s: float) -> None:
    """Move the clock of a process that has installed it under that name."""
    draft = data_dir / f".clock-{name}"
    draft.write_text(str(shift_s))
    draft.rename(data_dir / f"clock-{name}")


def _shift(path: Path) -> float:
    try:
        return float(path.read_text())
    except FileNotFoundError:
        return 0.0
