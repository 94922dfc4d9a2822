"""The table of all weights, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cli.weights.selection import slot_of, slots
from cli.weights.state import State, by_name, installed_in, state_of
from cli.weights.transfers import format_bytes
from models.weights.hashes import HashCache
from models.weights.installed import InstalledWeight
from models.weights.lock import Lock, Weight

_COMMERCIAL: Final = {True: "yes", False: "no"}
_NAME, _SIZE, _USE, _STATE = 33, 9, 12, 9
_LEGEND: Final = "* taken unless another one is chosen with --use    + installed instead"


@dataclass(frozen=True)
class Row:
    """One weight; `size` in bytes, on the disk or as far as the lock knows it; `unpinned`: files without a hash."""

    slot: str
    role: str
    name: str
    used_by: Sequence[str]
    default: bool
    optional: bool
    size: int
    unpinned: int
    licence: str
    commercial: bool | str
    state: State
    note: str

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        return asdict(self)


def rows(lock: Lock, root: Path, hashes: HashCache, only: str | None) -> list[Row]:
    """One row for each weight, slot by slot; raises `WeightsError` if the folder's record is malformed."""
    record, found = by_name(installed_in(root)), slots(lock, only)
    return [
        _row(weight, record.get(weight.name), state_of(weight, record, root, hashes))
        for weights in found.values()
        for weight in weights
    ]


def table(listed: Sequence[Row], width: int = 100) -> Iterator[str]:
    """The rows in lines of at most `width` characters."""
    yield f"  {'NAME':<{_NAME}}{'SIZE':>{_SIZE}}  {'COMMERCIAL':<{_USE}}{'STATE':<{_STATE}} LICENCE"
    slot = None
    for row in listed:
        if row.slot != slot:
            slot = row.slot
            yield f"{slot} ({', '.join(row.used_by)}{', optional' if row.optional else ''})"
        yield _cut(_line(row), width)
    yield _LEGEND


def _row(weight: Weight, installed: InstalledWeight | None, state: State) -> Row:
    return Row(
        slot=slot_of(weight.role),
        role=weight.role,
        name=weight.name,
        used_by=weight.used_by,
        default=weight.default,
        optional=weight.optional,
        size=sum(file.size for file in installed.files) if installed else weight.size,
        unpinned=sum(not file.pinned for file in weight.files),
        licence=weight.licence,
        commercial=weight.commercial,
        state=state,
        note=weight.note,
    )


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def _line(row: Row) -> str:
    mark = "*" if row.default else "+" if row.state != "absent" else " "
    use = row.commercial if isinstance(row.commercial, str) else _COMMERCIAL[row.commercial]
    state = "-" if row.state == "absent" else row.state
    size = format_bytes(row.size) if row.size else "unknown"
    return f"{mark} {row.name:<{_NAME}}{size:>{_SIZE}}  {use:<{_USE}}{state:<{_STATE}} {row.licence}"
