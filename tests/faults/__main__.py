"""Bring all faults about, or some of them: `python -m tests.faults [--only F1,F6] [--quick]`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.faults.finding import Fault, Finding
from tests.faults.matrix import FAULTS
from tests.faults.report import line, publish


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and write the document unless the trials were short; 0 if all was well."""
    options = _parser().parse_args(arguments)
    chosen = options.only.split(",") if options.only else list(FAULTS)
    well = True
    for fault in [FAULTS[key] for key in chosen]:
        finding = _find(fault, full=not options.quick)
        well &= bool(finding.trials) and not finding.complaints
        if not options.quick:  # at once: a matrix that is broken off keeps what it has found
            publish(fault, finding)
    return 0 if well else 1


def _find(fault: Fault, full: bool) -> Finding:
    began = time.monotonic()
    finding = fault.find(full)
    sys.stdout.write(line(fault, finding, time.monotonic() - began))
    sys.stdout.flush()
    return finding


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", help=f"comma-separated, of {', '.join(FAULTS)}")
    parser.add_argument("--quick", action="store_true", help="a few trials of each; the document stays as it is")
    return parser


if __name__ == "__main__":
    sys.exit(main())
