"""What a fault is, and what was found when it was brought about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Finding:
    """Counts trials, and keeps a sentence about every one that went wrong."""

    trials: int = 0
    complaints: list[str] = field(default_factory=list)
    figure: str = ""
    """What was measured."""

    @property
    def survived(self) -> int:
        """Trials that nothing is wrong with; each complaint costs one."""
        return max(0, self.trials - len(self.complaints))

    def trial(self, *complaints: str) -> None:
        """Count a trial; empty sentences say nothing."""
        self.trials += 1
        self.blame(*complaints)

    def blame(self, *complaints: str) -> None:
        """Add what is wrong, without counting a trial."""
        self.complaints += [words for words in complaints if words]


@dataclass(frozen=True)
class Fault:
    """One row of the matrix.

    `inflict(full, finding)` brings it about, in full or in short, and tells the finding what it saw.
    """

    id: str
    name: str
    how: str
    target: str
    inflict: Callable[[bool, Finding], None]

    def find(self, full: bool) -> Finding:
        """Bring it about. What does not come true in time, or breaks, is a complaint and ends the trials."""
        finding = Finding()
        try:
            self.inflict(full, finding)
        except Exception as error:  # noqa: BLE001 - whatever breaks is a finding, and must not end the other trials
            finding.trial(f"{type(error).__name__}: {error}")
        return finding


def unless(holds: bool, words: str) -> str:
    """A complaint, or nothing if all is well."""
    return "" if holds else words


def place(fault_id: str) -> tuple[bool, int, str]:
    """Where a fault stands in lists: numbered ones first, by number."""
    numbered = fault_id[1:].isdecimal()
    return not numbered, int(fault_id[1:]) if numbered else 0, fault_id
