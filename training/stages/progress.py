"""Logs and durations of a training."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from training.stages.loop import Logger

Result = TypeVar("Result")


def timed(part: str, log: Logger, work: Callable[[], Result]) -> Result:
    """Do the work, and log how long it took."""
    began = time.monotonic()
    result = work()
    log(f"{part}: done in {(time.monotonic() - began) / 60:.1f} minutes")
    return result


def file_logger(path: Path) -> Logger:
    """Logs to a file, to which it appends, and to the console, above any progress bar."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def log(line: str) -> None:
        tqdm.write(line)
        with path.open("a") as file:
            file.write(f"{line}\n")

    return log
