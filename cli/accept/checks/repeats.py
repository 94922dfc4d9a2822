"""Whether equal requests give equal images, and other seeds other images."""

from __future__ import annotations

from typing import Final

import numpy as np

from cli.accept.result import CheckResult, at_least, at_most, passed_if
from models.imaging.types import Rgb

SAME: Final = "Same seed, same picture"
DIFFERENT: Final = "Another seed, another picture"
AGREE: Final = "v1 and v2 agree"

MIN_DIFFERENCE: Final = 2.0
"""Levels of 255 by which pictures of two seeds differ on average, at least. Two encodings of one picture differ by
less, two photos of different things by 40 and more."""


def same(first: Rgb, second: Rgb, title: str = SAME) -> CheckResult:
    """Whether two pictures are equal in every pixel."""
    if first.shape != second.shape:
        return passed_if(title, False, "The two pictures differ in size.")
    return at_most(title, _difference(first, second), 0.0, "Mean difference of the two pictures, in levels of 255.")


def different(first: Rgb, second: Rgb) -> CheckResult:
    """Whether two pictures are not one and the same."""
    if first.shape != second.shape:
        return passed_if(DIFFERENT, False, "The two pictures differ in size, so their seeds cannot be compared.")
    message = "Mean difference of the two pictures, in levels of 255."
    return at_least(DIFFERENT, _difference(first, second), MIN_DIFFERENCE, message)


def agree(first: Rgb, second: Rgb, seeds: tuple[int, int]) -> CheckResult:
    """Whether both API versions gave the same image and reported the same seed."""
    if seeds[0] != seeds[1]:
        return passed_if(AGREE, False, f"The responses report different seeds, {seeds[0]} and {seeds[1]}.")
    return same(first, second, AGREE)


def _difference(first: Rgb, second: Rgb) -> float:
    return float(np.abs(first.astype(np.int16) - second).mean())
