"""docs/faults.md: the table of what was found, written anew row by row."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.finding import Fault, Finding, place

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
_TABLE = re.compile(r"(<!-- measured -->\n).*?(<!-- end of measured -->)", re.DOTALL)
_ROW = re.compile(r"^\| `(?P<id>[A-Z0-9]+)` \|.*$", re.MULTILINE)
_HEAD = ("", "Fault", "Trials", "Survived", "Figure", "Target", "Measured")


def publish(fault: Fault, finding: Finding) -> None:
    """Write a finding into the document."""
    DOCUMENT.write_text(with_finding(DOCUMENT.read_text(), fault, finding))


def with_finding(document: str, fault: Fault, finding: Finding) -> str:
    """The document with the row of this fault as it was found now; other rows stay."""
    rows = {found["id"]: found[0] for found in _ROW.finditer(document)}
    rows[fault.id] = row(fault, finding)
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD)), *(rows[key] for key in sorted(rows, key=place))]
    table = "\n".join(lines)
    return _TABLE.sub(lambda found: f"{found[1]}{table}\n{found[2]}", document)


def row(fault: Fault, finding: Finding) -> str:
    """One row of the table."""
    name = f"**{fault.name}**: {fault.how}"
    counts = [str(finding.trials), str(finding.survived)]
    return _line([f"`{fault.id}`", name, *counts, said(finding), fault.target, _circumstances()])


def line(fault: Fault, finding: Finding, seconds: float) -> str:
    """What the terminal shows of it."""
    verdict = "FAIL" if finding.complaints or not finding.trials else "PASS"
    head = f"{verdict} {fault.id:<5} {finding.survived}/{finding.trials} in {seconds:.0f} s: {said(finding)}"
    shown = [f"       {complaint}" for complaint in finding.complaints[1:20]]
    return "\n".join([head, *shown]) + "\n"


def said(finding: Finding) -> str:
    """What was measured; where something went wrong, what that was first."""
    return finding.complaints[0] if finding.complaints else finding.figure


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "&#124;").replace("\n", " ") for cell in cells) + " |"


def _circumstances() -> str:
    return f"{time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} cores {platform.machine()}"
