"""Compare the project with the golden files of a folder: `python -m tests.parity DIR [--json] [--device cuda]`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch

from tests.parity.discover import run
from tests.parity.report import Row

_FOREIGN_DEVICE_SLACK: Final = 10.0


def compare(root: Path, device: torch.device) -> Iterator[Row]:
    """Check everything below `root` on `device`; off the CPU, tolerances are ten times as wide."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return (row.relaxed(slack_of(device)) for row in run(root, device))


def slack_of(device: torch.device) -> float:
    """How many times as wide tolerances are on `device` as on the CPU, where the golden values were made."""
    return 1.0 if device.type == "cpu" else _FOREIGN_DEVICE_SLACK


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison; 0 if there was something to compare and all of it passed, else 1."""
    options = _parser().parse_args(arguments)
    rows = compare(options.folder, torch.device(options.device))
    passed = _print_json(list(rows)) if options.json else _print_table(rows)
    return 0 if passed else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with golden files, at any depth")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--device", default="cpu", help="where the networks run (default: cpu)")
    return parser


def _print_table(rows: Iterable[Row]) -> bool:
    count = failures = 0
    sys.stdout.write(f"{'name':<64} {'difference':>10} {'tolerance':>10}\n")
    for row in rows:
        count, failures = count + 1, failures + (not row.passed)
        sys.stdout.write(_line(row))
        sys.stdout.flush()
    sys.stdout.write(f"{count} comparisons, {failures} failed\n" if count else "nothing to compare was found\n")
    return bool(count) and not failures


def _line(row: Row) -> str:
    numbers = f"{row.difference:>10.3g} {row.tolerance:>10.3g}"
    return f"{row.name:<64} {numbers} {_verdict(row)}  {row.note}".rstrip() + "\n"


def _verdict(row: Row) -> str:
    return "PASS" if row.passed else "FAIL"


def _print_json(rows: list[Row]) -> bool:
    passed = bool(rows) and all(row.passed for row in rows)
    json.dump({"passed": passed, "rows": [_as_json(row) for row in rows]}, sys.stdout, indent=1)
    sys.stdout.write("\n")
    return passed


def _as_json(row: Row) -> dict[str, Any]:
    numbers = {key: _finite(value) for key, value in asdict(row).items()}
    return {**numbers, "passed": row.passed, "verdict": _verdict(row)}


def _finite(value: Any) -> Any:
    # JSON knows no infinity.
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
