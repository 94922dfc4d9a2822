"""Check results, alone and combined."""

from __future__ import annotations

import pytest

from cli.accept.result import Outcome, at_least, at_most, overall, passed_if, skipped

PASSED, FAILED, OPEN = passed_if("a", True, ""), passed_if("b", False, ""), skipped("c", "why")


@pytest.mark.parametrize(
    ("results", "outcome"),
    [
        ([PASSED, PASSED], Outcome.PASSED),
        ([PASSED, OPEN], Outcome.SKIPPED),
        ([PASSED, OPEN, FAILED], Outcome.FAILED),
        ([OPEN], Outcome.SKIPPED),
        ([], Outcome.SKIPPED),
    ],
)
def test_a_skipped_check_is_never_counted_as_passed(results, outcome: Outcome):
    assert overall(results) is outcome


def test_thresholds_are_inclusive():
    assert at_least("x", 0.4, 0.4, "").outcome is at_most("x", 0.4, 0.4, "").outcome is Outcome.PASSED
    assert at_least("x", 0.39, 0.4, "").outcome is at_most("x", 0.41, 0.4, "").outcome is Outcome.FAILED


def test_values_are_shown_with_their_threshold():
    assert at_least("x", 0.514, 0.4, "").measured == "0.51, at least 0.40"
    assert at_most("x", 2, 0, "").measured == "2.00, at most 0.00"
    assert PASSED.measured == OPEN.measured == ""
