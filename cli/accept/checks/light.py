"""Whether the light comes from the side that was asked for.

A picture's own content makes one half brighter than the other; compared with the same picture lit from the opposite
side, that falls out. What is measured: brightness of the light's half over the other half, divided by the same for
the picture lit from opposite. It is 1 if the light source has no effect and under 1 if the sides are swapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np

from cli.accept.luma import luma
from cli.accept.result import CheckResult, at_least
from models.imaging.types import Rgb

THRESHOLD: Final = 1.25
"""The least quotient: each picture's bright half is then some 12 % brighter than the other, which is plainly seen."""
_OFFSET: Final = 1.0
"""Levels added to both halves, so that a black one does not make the quotient infinite."""


@dataclass(frozen=True)
class Opposites:
    """Two opposite light sources, the one at the left or top edge first, and the axis of the image array."""

    near: str
    far: str
    axis: int

    @property
    def title(self) -> str:
        """Title of the check."""
        return f"{self.near} against {self.far}"


HORIZONTAL: Final = Opposites("Left Light", "Right Light", axis=1)
VERTICAL: Final = Opposites("Top Light", "Bottom Light", axis=0)


def lit_from(opposites: Opposites, near: Sequence[Rgb], far: Sequence[Rgb]) -> CheckResult:
    """Check pairs of pictures of the same seed, lit from either side; the value is the median quotient."""
    quotients = [
        brightness_ratio(bright, opposites.axis) / brightness_ratio(dark, opposites.axis)
        for bright, dark in zip(near, far, strict=True)
    ]
    found = median(quotients)
    return at_least(opposites.title, found, THRESHOLD, _message(found, len(quotients)))


def brightness_ratio(picture: Rgb, axis: int) -> float:
    """Mean luma of the left (axis 1) or upper (axis 0) half over that of the other."""
    levels = luma(picture)
    middle = levels.shape[axis] // 2
    first, second = (half.mean() for half in np.split(levels, [middle], axis))
    return float((first + _OFFSET) / (second + _OFFSET))


def _message(found: float, count: int) -> str:
    if found >= THRESHOLD:
        return f"The light comes from the side asked for; brightness quotient, median of {count} pairs."
    if found > 1 / THRESHOLD:
        return f"The light source makes too little difference; brightness quotient, median of {count} pairs."
    return f"The light comes from the wrong side; brightness quotient, median of {count} pairs."
