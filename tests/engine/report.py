"""What a run has seen: one line per step as it ends, and all of them as a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Report:
    """Figures by step."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._rows: list[tuple[str, float, str]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """A step: what the block appends to the list are its figures. A step that fails is said, and ends the run."""
        began, figures = time.monotonic(), list[str]()
        try:
            yield figures
        except BaseException:
            figures.append("FAILED")
            raise
        finally:
            took = time.monotonic() - began
            self._rows.append((name, took, "; ".join(figures)))
            sys.stdout.write(f"[{time.monotonic() - self._began:6.1f} s] {name}: {'; '.join(figures)} ({took:.1f} s)\n")
            sys.stdout.flush()

    def write(self, path: Path, head: str) -> None:
        """Write the table, in Markdown."""
        lines = ["| Step | Seconds | What was seen |", "| --- | --- | --- |"]
        lines += [f"| {name} | {took:.1f} | {figures} |" for name, took, figures in self._rows]
        lines.append(f"| all | {time.monotonic() - self._began:.1f} | |")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([head, "", *lines, ""]), encoding="utf-8")
