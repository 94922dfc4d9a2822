"""Progress of a long run: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, TextIO

from tqdm import tqdm

_EVERY_S: Final = 10.0
_LINE: Final = "{desc}: {n_fmt} of {total_fmt} ({percentage:.0f} %), {rate_fmt}, {remaining} left"


class Progress:
    """Counts bytes out of `total`, with rate and time left. Used in a `with` block, by any number of threads."""

    def __init__(self, label: str, total: int, done: int, out: TextIO) -> None:
        """`done`: bytes that were there before, which say nothing of the rate; `out`: usually standard error."""
        self._label, self._total, self._first, self._done, self._out = label, total, done, done, out
        self._lock = threading.Lock()
        self._began = self._printed_at = time.monotonic()
        self._bar = _bar(label, total, done, out) if out.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        else:
            self._print()

    def add(self, count: int) -> None:
        """Count `count` more bytes; negative if some were lost."""
        with self._lock:
            self._done += count
            if self._bar is not None:
                self._bar.update(count)
            elif time.monotonic() - self._printed_at >= _EVERY_S:
                self._print()

    def _print(self) -> None:
        self._printed_at = time.monotonic()
        line = tqdm.format_meter(
            self._done,
            self._total,
            self._printed_at - self._began,
            prefix=self._label,
            unit="B",
            unit_scale=True,
            initial=self._first,
            bar_format=_LINE,
        )
        self._out.write(f"{line}\n")
        self._out.flush()


def _bar(label: str, total: int, done: int, out: TextIO) -> tqdm:
    return tqdm(desc=label, total=total, initial=done, file=out, unit="B", unit_scale=True, dynamic_ncols=True)
