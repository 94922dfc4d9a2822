"""What serving costs besides the models: `python -m bench.serving`, in about two minutes, on this machine alone.

Gateway, worker and Redis run as they do in use; only the models compute nothing (`bench.load.roles`). What is
compared is measured in turn in the same run: the bare application and RQ's own worker beside ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: the project is what lies around this folder
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import tempfile
from collections.abc import Callable, Mapping
from typing import Final

from bench.load.drain import drain
from bench.load.metrics import metrics
from bench.load.pictures import round_trips
from bench.load.polling import polling
from bench.load.requests import overhead
from bench.load.stack import Site, resident_mib, site
from bench.load.start import start
from bench.load.trace import blocking
from bench.report import RESULTS, Report

PARTS: Final[Mapping[str, Callable[[Report, Site, float], None]]] = {
    "start": start,
    "overhead": overhead,
    "drain": drain,
    "pictures": round_trips,
    "polling": polling,
    "trace": blocking,
    "metrics": metrics,
}
_BUDGET_S: Final = 300


def main(arguments: list[str]) -> None:
    """Measure the parts that are asked for, all with one server."""
    options = _parser().parse_args(arguments)
    folder = tempfile.TemporaryDirectory(prefix="facelight-bench-", dir=options.folder)
    with Report("serving", folder=options.out, budget_s=_BUDGET_S) as report, folder, site(Path(folder.name)) as whole:
        for part in options.only or PARTS:
            PARTS[part](report, whole, options.scale)
        report.add("gateway: resident memory at the end", resident_mib(whole.gateway), "MiB", goal="<= 110")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="leave out the others; may be given repeatedly")
    parser.add_argument("--scale", type=float, default=1.0, help="how many repetitions, compared to a whole run")
    parser.add_argument("--folder", type=Path, help="where pictures and records lie; the disk is a part of the result")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
