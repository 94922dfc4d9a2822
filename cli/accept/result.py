"""The result of a check, and of all checks together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check: `title` is what was checked, `message` what was found.

    `threshold` is the lowest (or, with `at_most`, highest) accepted value; None, like `value`, if nothing is measured.
    """

    title: str
    outcome: Outcome
    message: str
    value: float | None = None
    threshold: float | None = None
    at_most: bool = False

    @property
    def measured(self) -> str:
        """Value and threshold, such as "0.52, at least 0.40"; empty if nothing was measured."""
        if self.value is None or self.threshold is None:
            return ""
        return f"{self.value:.2f}, {'at most' if self.at_most else 'at least'} {self.threshold:.2f}"


def passed_if(title: str, passed: bool, message: str) -> CheckResult:
    """Passed if `passed`; nothing was measured."""
    return CheckResult(title, Outcome.PASSED if passed else Outcome.FAILED, message)


def at_least(title: str, value: float, threshold: float, message: str) -> CheckResult:
    """Passed if `value` reaches `threshold`."""
    return replace(passed_if(title, value >= threshold, message), value=value, threshold=threshold)


def at_most(title: str, value: float, threshold: float, message: str) -> CheckResult:
    """Passed if `value` does not exceed `threshold`."""
    return replace(passed_if(title, value <= threshold, message), value=value, threshold=threshold, at_most=True)


def skipped(title: str, reason: str) -> CheckResult:
    """The result of a check that could not be made, and why."""
    return CheckResult(title, Outcome.SKIPPED, reason)


def overall(results: Iterable[CheckResult]) -> Outcome:
    """Failed if any result has, passed only if all have; skipped if there are none."""
    outcomes = {result.outcome for result in results}
    if Outcome.FAILED in outcomes:
        return Outcome.FAILED
    return Outcome.PASSED if outcomes == {Outcome.PASSED} else Outcome.SKIPPED
