"""Compares the figures of two trainings: `python -m training.evaluation.compare A B`.

A and B are the `figures.json` of two trainings. All seeds are fixed, but processors round differently, and thousands of
steps amplify that: hence the margins.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.evaluation.goals import CheckResult, Figures, check_goals, read_figures


@dataclass(frozen=True)
class Margin:
    """Allowed difference of two figures: a share of the larger one, or an absolute value, whichever is more."""

    share: float
    least: float


MARGINS: Final[Mapping[str, Margin]] = {
    "": Margin(0.4, 0.0),
    "dB": Margin(0.0, 0.5),
    "levels": Margin(0.3, 0.3),
    "CIELAB": Margin(0.4, 2.0),
}
"""By unit; quotients have none. Seconds are not compared."""


@dataclass(frozen=True)
class Pair:
    """A figure of both trainings, and the difference allowed."""

    what: str
    first: float | None
    second: float | None
    margin: float

    @property
    def agrees(self) -> bool:
        """Whether both were measured and are within the margin."""
        return self.first is not None and self.second is not None and abs(self.first - self.second) <= self.margin


def pairs(first: Figures, second: Figures) -> Iterator[Pair]:
    """Every figure of both; raises `ValueError` if they measured different things."""
    for one, other in zip(check_goals(first), check_goals(second), strict=True):
        if one.what != other.what:
            raise ValueError(f"{one.what!r} was measured in the first training, {other.what!r} in the second")
        if one.unit in MARGINS:
            yield Pair(one.what, one.value, other.value, _margin(one, other))


def table(compared: Sequence[Pair]) -> str:
    """The figures side by side as text, with the number that agree at the end."""
    width = max(len(pair.what) for pair in compared)
    rows = [
        f"{'same' if pair.agrees else 'DIFFERS':<7}  {pair.what:<{width}}  {_shown(pair.first)}  {_shown(pair.second)}"
        f"  margin {pair.margin:.2f}"
        for pair in compared
    ]
    return "\n".join([*rows, f"{sum(pair.agrees for pair in compared)} of {len(compared)} figures agree", ""])


def _margin(one: CheckResult, other: CheckResult) -> float:
    margin = MARGINS[one.unit]
    return max(margin.least, margin.share * max(abs(one.value or 0.0), abs(other.value or 0.0)))


def _shown(value: float | None) -> str:
    return f"{'-':>7}" if value is None else f"{value:>7.2f}"


def main(words: Sequence[str] | None = None) -> None:
    """Compare and print a table; exit status 1 if a figure differs by more than its margin.

    `words`: the command's arguments, those of the process if not given.
    """
    parser = argparse.ArgumentParser(prog="python -m training.evaluation.compare", description=__doc__)
    parser.add_argument("first", type=Path, help="figures.json of one training")
    parser.add_argument("second", type=Path, help="figures.json of the other")
    given = parser.parse_args(words)
    first, second = read_figures(given.first), read_figures(given.second)
    compared = list(pairs(first, second))
    sys.stdout.write(table(compared))
    if not all(pair.agrees for pair in compared):
        sys.exit(1)


if __name__ == "__main__":
    main()
