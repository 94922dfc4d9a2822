"""Waiting for something to come true, and saying what did not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class TimedOut(AssertionError):
    """Something did not come true in time; `str()` says what."""


def until(reached: Callable[[], object], what: str, timeout_s: float = 60, pause_s: float = 0.05) -> float:
    """Return, with the seconds it took, as soon as `reached()` is true; raises `TimedOut`."""
    began = time.monotonic()
    while not reached():
        if time.monotonic() - began > timeout_s:
            raise TimedOut(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(pause_s)
    return time.monotonic() - began


def percentile(values: list[float], share: float) -> float:
    """The smallest of the values that at least `share` of them do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * share) - 1] if ordered else math.nan
