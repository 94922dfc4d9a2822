"""The figures of demo weights, and the goals that they are checked against."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Final

from pydantic import TypeAdapter

from training.evaluation.metrics import Axis

FIGURES_FILE: Final = "figures.json"
"""File name of the figures of a training."""
RESULTS: Final = Path(__file__).parents[1] / "results"
"""Log and figures of the training of the shipped weights."""

QUOTIENT: Final = 4.0
"""Least quotient of opposite lights on the whole picture."""
SUBJECT_QUOTIENT: Final = 2.0
"""The same within the subject."""
PSNR_DB: Final = 25.0
"""Least fidelity of the autoencoder."""
CHROMA_LEVELS: Final = 4.0
"""Largest mean chroma error of the autoencoder, 1.6 % of the range."""
CHROMA_SHIFT: Final = 2.3
"""Least mean shift of the named components of CIELAB: a just noticeable difference."""
NOISE_LEVELS: Final = 1.68
"""Most noise in a plain background: half of that of a first attempt at these weights, 3.36 levels."""
REQUEST_S: Final = 20.0
"""Seconds of one default request, matting included, on two CPU cores."""


@dataclass(frozen=True)
class Light:
    """Quotients of two opposite light sources; `subject` is None if `mask`, its share of the picture, is too small."""

    picture: str
    axis: Axis
    seed: int
    whole: float
    subject: float | None
    mask: float


@dataclass(frozen=True)
class RoundTrip:
    """Fidelity of the autoencoder: PSNR in dB, mean chroma error in levels."""

    picture: str
    psnr_db: float
    chroma_levels: float


@dataclass(frozen=True)
class WordShift:
    """Mean a* and b* of a picture generated with these words, less those with the plain ones.

    `named` is the shift in the direction that the words name, the smaller component if they name two.
    """

    words: str
    picture: str
    a: float
    b: float
    named: float


@dataclass(frozen=True)
class Noise:
    """Noise of a plain background in levels, the root mean square over four light sources, and its mean luma."""

    picture: str
    levels: float
    luma: float


@dataclass(frozen=True)
class Figures:
    """All figures; `shortened`: measured with so little work that the goals do not apply."""

    light: Sequence[Light]
    round_trips: Sequence[RoundTrip]
    words: Sequence[WordShift]
    noise: Sequence[Noise]
    request_s: float
    shortened: bool


@dataclass(frozen=True)
class CheckResult:
    """One figure and its goal; `value` is None if it could not be measured, which is a failure."""

    what: str
    value: float | None
    unit: str
    goal: str
    passed: bool
    note: str = ""


def write_figures(file: Path, figures: Figures) -> None:
    """Write figures as JSON."""
    file.write_text(json.dumps(asdict(figures), indent=1) + "\n")


def read_figures(file: Path) -> Figures:
    """What `write_figures` wrote; raises pydantic's `ValidationError` for anything else."""
    return TypeAdapter(Figures).validate_json(file.read_bytes())


def check_goals(figures: Figures) -> list[CheckResult]:
    """Check all figures against their goals."""
    return [
        *_light(figures.light),
        *_round_trips(figures.round_trips),
        *_words(figures.words),
        *_noise(figures.noise),
        _at_most("a default request", figures.request_s, "s", REQUEST_S),
    ]


def table(figures: Figures) -> str:
    """The checks as text, with the number of goals met at the end."""
    judged = check_goals(figures)
    width = max(len(line.what) for line in judged)
    rows = [_row(line, width) for line in judged]
    met = f"{sum(line.passed for line in judged)} of {len(judged)} goals met"
    remark = " in a shortened run, whose figures mean nothing" if figures.shortened else ""
    return "\n".join([*rows, met + remark, ""])


def _row(line: CheckResult, width: int) -> str:
    value = "-" if line.value is None else f"{line.value:.2f}"
    note = f"  ({line.note})" if line.note else ""
    verdict = "pass" if line.passed else "FAIL"
    return f"{verdict}  {line.what:<{width}}  {value:>7} {line.unit:<6}  goal {line.goal}{note}"


def _light(light: Sequence[Light]) -> Iterator[CheckResult]:
    for (picture, axis), group in groupby(light, key=lambda one: (one.picture, one.axis)):
        seeds = list(group)
        least = f"least of {len(seeds)} seeds" if len(seeds) > 1 else ""
        yield _at_least(f"{picture}: {axis}, picture", min(one.whole for one in seeds), "", QUOTIENT, least)
        inside = [one.subject for one in seeds if one.subject is not None]
        note = f"{seeds[0].mask:.0%} of the picture" + ("" if inside else ", too little or all in one half")
        yield _at_least(f"{picture}: {axis}, subject", min(inside, default=None), "", SUBJECT_QUOTIENT, note)


def _round_trips(round_trips: Sequence[RoundTrip]) -> Iterator[CheckResult]:
    for one in round_trips:
        yield _at_least(f"{one.picture}: autoencoder", one.psnr_db, "dB", PSNR_DB)
        yield _at_most(f"{one.picture}: autoencoder, chroma error", one.chroma_levels, "levels", CHROMA_LEVELS)


def _words(words: Sequence[WordShift]) -> Iterator[CheckResult]:
    for text, group in groupby(words, key=lambda one: one.words):
        shifts = list(group)
        a, b = mean(one.a for one in shifts), mean(one.b for one in shifts)
        count = sum(one.named > 0 for one in shifts)
        note = f"a* {a:+.1f}, b* {b:+.1f}; {count} of {len(shifts)} pictures the named way"
        yield _at_least(f"{text}: shift as named", mean(one.named for one in shifts), "CIELAB", CHROMA_SHIFT, note)


def _noise(noise: Sequence[Noise]) -> Iterator[CheckResult]:
    for one in noise:
        note = f"mean luma {one.luma:.0f}"
        yield _at_most(f"{one.picture}: noise of the background", one.levels, "levels", NOISE_LEVELS, note)


def _at_least(what: str, value: float | None, unit: str, goal: float, note: str = "") -> CheckResult:
    return CheckResult(what, value, unit, f">= {goal:.2f}", value is not None and value >= goal, note)


def _at_most(what: str, value: float, unit: str, goal: float, note: str = "") -> CheckResult:
    return CheckResult(what, value, unit, f"<= {goal:.2f}", value <= goal, note)
