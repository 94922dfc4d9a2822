"""What the fake pipelines did: a file to which every worker process adds a line per event."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUNS = "runs.log"
"""Its name in the data folder."""


@dataclass
class Run:
    """One run of a pipeline. Times are those of the machine's monotonic clock, which all processes share."""

    run: str
    """Six hexadecimal digits, no two runs alike: the colour of every picture that this run paints."""
    label: str
    seed: int
    pid: int
    began: float
    steps: list[float] = field(default_factory=list)
    painted: float | None = None


class RunLog:
    """Writes one line per event; a process that is killed leaves whole lines."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / RUNS

    def note(self, event: str, run: str, **fields: Any) -> None:
        """Add an event of a run."""
        line = json.dumps({"event": event, "run": run, "at": time.monotonic(), **fields}) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def count(self, label: str) -> int:
        """How many runs of a request have begun."""
        return len(self.of(label))

    def of(self, label: str) -> list[Run]:
        """The runs of a request, oldest first."""
        return [run for run in self.all() if run.label == label]

    def all(self) -> list[Run]:
        """All runs, oldest first."""
        found: dict[str, Run] = {}
        for event in self._events():
            kind, at, run = event["event"], event["at"], event["run"]
            if kind == "begin":
                found[run] = Run(run, event["label"], event["seed"], event["pid"], at)
            elif kind == "step":
                found[run].steps.append(at)
            else:
                found[run].painted = at
        return list(found.values())

    def under_way(self, pid: int) -> Run | None:
        """What a process has begun and not painted."""
        return next((run for run in self.all() if run.pid == pid and run.painted is None), None)

    def _events(self) -> Iterator[dict[str, Any]]:
        if self._path.exists():
            with self._path.open() as lines:
                yield from map(json.loads, lines)
