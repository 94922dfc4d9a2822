"""What a judge says of pictures, and what all judges together say of a server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Outcome(StrEnum):
    """How a judgement ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Verdict:
    """One judgement.

    `title` says what was asked, `sentence` what was found; `figure` is the measured value and `threshold` its lowest
    (or, with `at_most`, highest) accepted one, both None where nothing is measured.
    """

    title: str
    outcome: Outcome
    sentence: str
    figure: float | None = None
    threshold: float | None = None
    at_most: bool = False

    @property
    def measured(self) -> str:
        """Figure and threshold in words, such as "0.52, at least 0.40"; empty if nothing was measured."""
        if self.figure is None or self.threshold is None:
            return ""
        return f"{self.figure:.2f}, {'at most' if self.at_most else 'at least'} {self.threshold:.2f}"


def judged(title: str, passed: bool, sentence: str) -> Verdict:
    """A verdict on something that is so or not."""
    return Verdict(title, Outcome.PASSED if passed else Outcome.FAILED, sentence)


def at_least(title: str, figure: float, threshold: float, sentence: str) -> Verdict:
    """Passed if `figure` reaches `threshold`."""
    return replace(judged(title, figure >= threshold, sentence), figure=figure, threshold=threshold)


def at_most(title: str, figure: float, threshold: float, sentence: str) -> Verdict:
    """Passed if `figure` does not exceed `threshold`."""
    return replace(judged(title, figure <= threshold, sentence), figure=figure, threshold=threshold, at_most=True)


def not_judged(title: str, reason: str) -> Verdict:
    """A verdict on something that could not be judged, and why."""
    return Verdict(title, Outcome.NOT_JUDGED, reason)


def overall(verdicts: Iterable[Verdict]) -> Outcome:
    """All verdicts as one: failed if any has failed, passed only if all have; of none, not judged."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if Outcome.FAILED in outcomes:
        return Outcome.FAILED
    return Outcome.PASSED if outcomes == {Outcome.PASSED} else Outcome.NOT_JUDGED
