"""One way to tell a measurement: rows in a table on the terminal and in a JSON file.

The file is written anew after every row, so that a run which is interrupted, or killed, leaves what it has.
"""

from __future__ import annotations

import math
import re
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, MappingProxyType, TracebackType
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from bench.machine import Machine, command_line, installed_versions, this_machine

SCHEMA_VERSION: Final = 1
RESULTS: Final = Path(__file__).parent / "results"
_OLD_WORDS: Final = {"R0": "reference", "R1": "diffusers", "R2": "diffusers_compiled", "floor": "roofline"}
"""Words in the rows' names of results before 2026-12, which are still read."""
_OLD_WORD: Final = re.compile(r"\b(R[012]|floor)\b")
_GOAL: Final = re.compile(r"(<=|>=|==|<|>) (-?\d+(?:\.\d+)?)")
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": float.__le__,
    ">=": float.__ge__,
    "==": float.__eq__,
    "<": float.__lt__,
    ">": float.__gt__,
}


class Interrupted(BaseException):
    """The run was told to end, or its time is over. No `Exception`: nothing that catches errors may swallow it."""


class Row(BaseModel):
    """One measured value.

    `value` is None where it could not be measured; `note` says why. `goal` is text such as "<= 1.005"; `reached` tells
    whether the value meets it, None without a goal.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, BeforeValidator(lambda name: _OLD_WORD.sub(lambda word: _OLD_WORDS[word[0]], name))]
    value: float | None
    unit: str
    goal: str | None = None
    reached: bool | None = None
    note: str = ""


class Record(BaseModel):
    """What a result file holds. Times are UTC; `complete` is False while a run lasts and for one that was cut off."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION
    what: str
    device: str
    machine: Machine
    versions: dict[str, str]
    command: list[str]
    started: datetime
    finished: datetime | None = None
    complete: bool = False
    rows: list[Row] = []


class Report:
    """The rows of one run; a context manager that ends the file and prints the table.

    While it is open, SIGTERM and the end of `budget_s` seconds (from when it was opened) raise `Interrupted` in the
    main thread. On leaving, `Interrupted` and KeyboardInterrupt end here: the run was cut off, which its file says.
    """

    def __init__(
        self,
        what: str,
        device: str = "cpu",
        folder: Path = RESULTS,
        budget_s: float = 0,
        versions: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Name the run; `device` is "cpu" or the accelerator's own name, `versions` adds to the packages' versions.

        A budget of 0 s is none.
        """
        self.record = Record(
            what=what,
            device=device,
            machine=this_machine(device),
            versions=installed_versions() | dict(versions),
            command=command_line(sys.orig_argv),
            started=datetime.now(UTC),
        )
        self.path = folder / f"{_slug(what)}-{_slug(device)}-{self.record.started:%Y-%m-%d}.json"
        self._budget_s = budget_s
        self._handlers: dict[signal.Signals, Any] = {}

    def add(self, name: str, value: float | None, unit: str, goal: str | None = None, note: str = "") -> Row:
        """Add a measured value as `row` makes it, write the file and tell the row."""
        return self.put(row(name, value, unit, goal, note))

    def put(self, measured: Row) -> Row:
        """Add a row that somebody else made."""
        self.record.rows.append(measured)
        self._write()
        sys.stdout.write(line_of(measured) + "\n")
        sys.stdout.flush()
        return measured

    def value(self, name: str) -> float | None:
        """The latest value of that name, None if there is none."""
        return next((past.value for past in reversed(self.record.rows) if past.name == name), None)

    def __enter__(self) -> Report:
        self._handlers = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGALRM)}
        signal.setitimer(signal.ITIMER_REAL, self._budget_s)
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.record.finished, self.record.complete = datetime.now(UTC), kind is None
        self._write()
        sys.stdout.write(f"\n{table(self.record)}\n{self.path}\n")
        return kind is not None and issubclass(kind, Interrupted | KeyboardInterrupt)

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: whoever kills the run between two rows finds the last whole file.
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(self.record.model_dump_json(indent=1) + "\n")
        unfinished.replace(self.path)


def row(name: str, value: float | None, unit: str, goal: str | None = None, note: str = "") -> Row:
    """Make a row, judged by its goal, which None misses; raises ValueError for a goal that is none."""
    reached = None if goal is None else meets(math.nan if value is None else value, goal)
    return Row(name=name, value=value, unit=unit, goal=goal, reached=reached, note=note)


def meets(value: float, goal: str) -> bool:
    """Whether `value` meets a goal such as "<= 1.005" or "== 0"; raises ValueError for other text."""
    parts = _GOAL.fullmatch(goal)
    if parts is None:
        raise ValueError(f"{goal!r} is no goal: a comparison and a number are.")
    return _COMPARE[parts[1]](float(value), float(parts[2]))


def table(record: Record) -> str:
    """The whole run as a Markdown table under one line of what ran where."""
    state = "complete" if record.complete else "NOT complete"
    head = f"{record.what} on {record.device}, {record.started:%Y-%m-%d %H:%M} UTC, {state}: {' '.join(record.command)}"
    rows = [f"| {it.name} | {_told(it.value)} | {it.unit} | {_verdict(it)} | {it.note} |" for it in record.rows]
    return "\n".join([head, "", "| what | value | unit | goal | note |", "|---|---|---|---|---|", *rows, ""])


def line_of(measured: Row) -> str:
    """One row as it appears while the run lasts."""
    name, value, unit = measured.name, _told(measured.value), measured.unit
    return f"{name:<56} {value:>12} {unit:<10} {_verdict(measured)}  {measured.note}".rstrip()


def _verdict(measured: Row) -> str:
    return "" if measured.goal is None else f"{measured.goal} {'reached' if measured.reached else 'MISSED'}"


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value == int(value) else f"{value:,.5g}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number).name)
