"""Asking a server everything, and collecting what the judges say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from cli.accept import Refused
from cli.accept.client import Answer, Ask
from cli.accept.result import Outcome, Verdict, judged, overall
from cli.accept.scenario import Group

Tell = Callable[[str], None]
"""Takes one line about how far the run is."""
Draw = Callable[[Ask], Answer]
"""Sends a request and waits for its picture; raises `Refused`."""
ANSWERED: Final = "Every request answered"
_HEADLINES: Final[Mapping[Outcome, str]] = {
    Outcome.PASSED: "Passed",
    Outcome.FAILED: "Failed",
    Outcome.NOT_JUDGED: "Runs; not judged",
}


@dataclass(frozen=True)
class Examined:
    """A group with its answers and the verdicts on them; a request that was refused ends its group."""

    group: Group
    answers: tuple[Answer, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Report:
    """Everything that a run has found.

    `server` and `settings` say what was asked, `models` is what the server says of each of its models, `weights` has
    role, name and licence of each weight if they are known here.
    """

    server: str
    settings: str
    date: str
    models: Mapping[str, Mapping[str, Any]]
    weights: Sequence[tuple[str, str, str]]
    examined: Sequence[Examined]

    @property
    def verdicts(self) -> list[Verdict]:
        """All verdicts in order."""
        return [verdict for examined in self.examined for verdict in examined.verdicts]

    @property
    def outcome(self) -> Outcome:
        """All verdicts as one."""
        return overall(self.verdicts)

    @property
    def summary(self) -> str:
        """The outcome in words, and how many verdicts there are of each kind."""
        counts = [(sum(verdict.outcome is kind for verdict in self.verdicts), kind.value) for kind in Outcome]
        return f"{_HEADLINES[self.outcome]}: " + ", ".join(f"{number} {kind}" for number, kind in counts if number)


def examine_all(groups: Sequence[Group], draw: Draw, tell: Tell) -> Iterator[Examined]:
    """Work through all groups, telling of each request and verdict; `draw` may raise `CannotRun`."""
    numbers, total = count(1), sum(len(group.asks) for group in groups)

    def draw_and_tell(ask: Ask) -> Answer:
        answer = draw(ask)
        tell(f"  {next(numbers)}/{total}  {ask.caption}: {answer.inference_s:.1f} s")
        return answer

    for group in groups:
        tell(f"{group.slug}: {group.title}")
        examined = _examine(group, draw_and_tell)
        for verdict in examined.verdicts:
            tell(f"  {verdict.outcome.value}: {verdict.title}{in_brackets(verdict.measured)}")
        yield examined


def in_brackets(words: str) -> str:
    """The words behind a space, in brackets; nothing if there are none."""
    return f" ({words})" if words else ""


def _examine(group: Group, draw: Draw) -> Examined:
    answers: list[Answer] = []
    try:
        for ask in group.asks:
            answers.append(draw(ask))
    except Refused as refusal:
        return Examined(group, tuple(answers), (judged(ANSWERED, False, str(refusal)),))
    return Examined(group, tuple(answers), tuple(judge(answers) for judge in group.judges))
