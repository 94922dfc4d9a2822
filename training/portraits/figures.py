"""The figures of demo portraits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

FIGURES_FILE: Final = "portraits.json"
"""File name of the figures of a training."""


@dataclass(frozen=True)
class Identity:
    """Of one face style, by one judge: in how many portraits the own input is the closest, and how close on average.

    `found`: portraits with a face that the detector finds.
    """

    style: str
    judge: str
    faces: int
    found: int
    right: int
    own: float


@dataclass(frozen=True)
class WordEffect:
    """The mean change of a measure by a prompt's words, and for how many faces it is the expected way."""

    prompt: str
    measure: str
    expected: str
    change: float
    right: int
    faces: int


@dataclass(frozen=True)
class Figures:
    """All figures. `closer`: share of the faces that `high-fidelity` shows closer than `stylized`, by judge.

    `seeds`: mean difference of two seeds' pictures in levels of 255. `request_s`: of a request of 1024 x 1024 px.
    """

    identity: Sequence[Identity]
    closer: Mapping[str, float]
    words: Sequence[WordEffect]
    seeds: float
    request_s: float


def table(figures: Figures) -> str:
    """The figures as lines of text."""
    lines = [
        f"{one.style}, {one.judge}: own input closest in {one.right} of {one.faces}, mean similarity {one.own:.2f}, "
        f"face found in {one.found}"
        for one in figures.identity
    ]
    lines += [f"high-fidelity closer, {judge}: {share:.0%}" for judge, share in figures.closer.items()]
    lines += [
        f"{one.prompt}: {one.measure} {one.change:+.1f}, {one.expected} in {one.right} of {one.faces}"
        for one in figures.words
    ]
    return "\n".join(
        [*lines, f"two seeds: {figures.seeds:.1f} levels", f"1024 x 1024 px: {figures.request_s:.1f} s", ""]
    )


def write_figures(file: Path, figures: Figures) -> None:
    """Write figures as JSON."""
    file.write_text(json.dumps(asdict(figures), indent=1) + "\n")


def read_figures(file: Path) -> Figures:
    """What `write_figures` wrote."""
    return TypeAdapter(Figures).validate_json(file.read_bytes())
