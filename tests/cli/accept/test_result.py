"""Verdicts, alone and together."""

from __future__ import annotations

import pytest

from cli.accept.result import Outcome, at_least, at_most, judged, not_judged, overall

PASSED, FAILED, OPEN = judged("a", True, ""), judged("b", False, ""), not_judged("c", "why")


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ([PASSED, PASSED], Outcome.PASSED),
        ([PASSED, OPEN], Outcome.NOT_JUDGED),
        ([PASSED, OPEN, FAILED], Outcome.FAILED),
        ([OPEN], Outcome.NOT_JUDGED),
        ([], Outcome.NOT_JUDGED),
    ],
)
def test_what_was_not_judged_is_never_counted_as_passed(verdicts, outcome: Outcome):
    assert overall(verdicts) is outcome


def test_thresholds_belong_to_the_accepted_side():
    assert at_least("x", 0.4, 0.4, "").outcome is at_most("x", 0.4, 0.4, "").outcome is Outcome.PASSED
    assert at_least("x", 0.39, 0.4, "").outcome is at_most("x", 0.41, 0.4, "").outcome is Outcome.FAILED


def test_figures_are_told_with_their_side():
    assert at_least("x", 0.514, 0.4, "").measured == "0.51, at least 0.40"
    assert at_most("x", 2, 0, "").measured == "2.00, at most 0.00"
    assert PASSED.measured == OPEN.measured == ""
