"""One line of the doctor's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """`fail`: requests cannot be served, or may be lost. `warn`: they can, but something is worse than it should be."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """What was found, in words, and what to do about it; nothing where all is well."""

    level: Level
    message: str
    remedy: str = ""


def ok(message: str) -> Finding:
    """Nothing is to be done."""
    return Finding(Level.OK, message)


def warn(message: str, remedy: str) -> Finding:
    """It works, but not as well as it should."""
    return Finding(Level.WARN, message, remedy)


def fail(message: str, remedy: str) -> Finding:
    """It does not work, or not for long."""
    return Finding(Level.FAIL, message, remedy)
