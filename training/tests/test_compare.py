"""Comparison of the figures of two trainings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from training.evaluation.compare import main, pairs
from training.evaluation.goals import Figures, Light, Noise, RoundTrip, WordShift, write_figures

FIRST = Figures(
    light=[Light("coffee", "left/right", 42, 8.0, 4.0, 0.4)],
    round_trips=[RoundTrip("coffee", 27.0, 2.0)],
    words=[WordShift("warm light", "coffee", 0.0, 10.0, 10.0)],
    noise=[Noise("sphere", 1.0, 120.0)],
    request_s=9.0,
    shortened=False,
)
CLOSE = replace(
    FIRST,
    light=[replace(FIRST.light[0], whole=10.0, subject=3.0)],
    round_trips=[RoundTrip("coffee", 26.6, 2.4)],
    words=[replace(FIRST.words[0], named=7.0)],
    noise=[Noise("sphere", 1.25, 100.0)],
    request_s=99.0,
)
FAR = replace(
    FIRST,
    light=[replace(FIRST.light[0], whole=4.0, subject=None)],
    round_trips=[RoundTrip("coffee", 26.4, 3.0)],
    words=[replace(FIRST.words[0], named=3.0)],
    noise=[Noise("sphere", 1.5, 120.0)],
)


def test_figures_within_their_margins_agree_whatever_the_time():
    assert [pair.agrees for pair in pairs(FIRST, CLOSE)] == [True] * 6


def test_every_figure_can_differ():
    assert [pair.agrees for pair in pairs(FIRST, FAR)] == [False] * 6
    assert [pair.agrees for pair in pairs(FAR, FIRST)] == [False] * 6


def test_other_pictures_are_no_comparison():
    with pytest.raises(ValueError, match=r"coffee.*chelsea"):
        list(pairs(FIRST, replace(FIRST, round_trips=[RoundTrip("chelsea", 27.0, 2.0)])))


@pytest.mark.parametrize(("second", "status", "said"), [(CLOSE, 0, "6 of 6 figures"), (FAR, 1, "0 of 6 figures")])
def test_the_command_compares_two_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], second: Figures, status: int, said: str
):
    files = tmp_path / "a.json", tmp_path / "b.json"
    for file, figures in zip(files, (FIRST, second), strict=True):
        write_figures(file, figures)
    ended = 0
    try:
        main([str(file) for file in files])
    except SystemExit as end:
        ended = end.code
    assert ended == status
    printed = capsys.readouterr().out
    assert said in printed
    assert printed.count("DIFFERS") == (6 if status else 0)
