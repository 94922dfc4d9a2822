"""Checks of figures against their goals, and their table."""

from __future__ import annotations

from dataclasses import replace

from training.evaluation.goals import (
    CHROMA_LEVELS,
    CHROMA_SHIFT,
    NOISE_LEVELS,
    PSNR_DB,
    QUOTIENT,
    REQUEST_S,
    SUBJECT_QUOTIENT,
    Figures,
    Light,
    Noise,
    RoundTrip,
    WordShift,
    check_goals,
    table,
)

GOOD = Figures(
    light=[Light("coffee", "left/right", seed, QUOTIENT + seed, SUBJECT_QUOTIENT, 0.4) for seed in (0, 1)],
    round_trips=[RoundTrip("coffee", PSNR_DB, CHROMA_LEVELS)],
    words=[WordShift("warm light", name, 0.0, shift, shift) for name, shift in (("coffee", -1.0), ("cat", 6.0))],
    noise=[Noise("sphere", NOISE_LEVELS, 120.0)],
    request_s=REQUEST_S,
    shortened=False,
)


def passed(figures: Figures) -> dict[str, bool]:
    return {line.what: line.passed for line in check_goals(figures)}


def test_figures_that_just_meet_their_goals_pass():
    assert len(check_goals(GOOD)) == 7
    assert all(line.passed for line in check_goals(GOOD))


def test_every_goal_can_be_missed():
    light = replace(GOOD.light[0], whole=QUOTIENT - 0.1, subject=SUBJECT_QUOTIENT - 0.1)
    missed = Figures(
        light=[*GOOD.light, light],
        round_trips=[RoundTrip("coffee", PSNR_DB - 0.1, CHROMA_LEVELS + 0.1)],
        words=[WordShift("warm light", "coffee", 0.0, CHROMA_SHIFT - 0.1, CHROMA_SHIFT - 0.1)],
        noise=[Noise("sphere", NOISE_LEVELS + 0.1, 120.0)],
        request_s=REQUEST_S + 0.1,
        shortened=False,
    )
    assert passed(missed) == dict.fromkeys(passed(GOOD), False)


def test_the_worst_seed_counts():
    least = next(line for line in check_goals(GOOD) if line.what == "coffee: left/right, picture")
    assert (least.value, least.note) == (QUOTIENT, "least of 2 seeds")


def test_words_are_judged_by_their_mean_and_counted_by_picture():
    line = next(line for line in check_goals(GOOD) if line.what.startswith("warm light"))
    assert line.value == 2.5
    assert "b* +2.5; 1 of 2 pictures the named way" in line.note


def test_a_subject_that_cannot_be_measured_fails_with_the_reason():
    hidden = replace(GOOD, light=[replace(one, subject=None, mask=0.03) for one in GOOD.light])
    assert not passed(hidden)["coffee: left/right, subject"]
    assert "3% of the picture, too little or all in one half" in table(hidden)


def test_the_table_has_a_row_for_each_figure_and_a_sum():
    rows = table(GOOD).splitlines()
    assert len(rows) == 8
    assert all(row.startswith("pass") for row in rows[:-1])
    assert rows[-1] == "7 of 7 goals met"
    assert table(replace(GOOD, request_s=99.0)).count("FAIL") == 1
    assert "mean nothing" in table(replace(GOOD, shortened=True))
