"""Lower networks for targets, print their counts, and write them into the table of counts.

    python -m tests.lowering --network full --target h200 --model ic-light --only predict_noise:capture --write

Without options: everything for all targets, which takes hours. `make docs` puts the table into the documentation.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version

from tests.lowering.counts import COUNTS, MODELS, NETWORKS, Counts, differences, merged, read_counts, write_counts
from tests.lowering.reports import measure, unfit_torch
from tests.lowering.targets import TARGETS


def main() -> None:
    """Measure what was asked for, one process after the other; exits with 1 if something must not be as it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--only", action="append", help="function and kind of call, such as predict_noise:capture")
    parser.add_argument("--sources-only", action="store_true", help="do not compile kernels to machine code")
    parser.add_argument("--write", action="store_true", help="replace the rows of what was measured in the table")
    given = parser.parse_args()
    if reason := unfit_torch():
        sys.exit(reason)
    failed = False
    for network in given.network or NETWORKS[::-1]:
        for model in given.model or MODELS:
            for target in given.target or TARGETS:
                failed |= _measure(target, model, network, given)
    sys.exit(failed)


def _measure(target: str, model: str, network: str, given: argparse.Namespace) -> bool:
    """Measure one model for one target; whether it has problems, or costs more than the table allows."""
    report = measure(target, model, network, given.only or (), given.sources_only)
    table = read_counts() if COUNTS.exists() else Counts(torch=version("torch").partition("+")[0])
    if given.write:
        write_counts(Counts(torch=table.torch, rows=merged(table.rows, report.counts)))
    lines = [count.model_dump_json() for count in report.counts]
    changes = differences(report.counts, table.rows)
    lines += [*report.problems, *changes, f"processor time: {report.seconds}"]
    print(*(f"{model} ({network}) for {target}: {line}" for line in lines), sep="\n", flush=True)  # noqa: T201 - its output
    return bool(report.problems or (changes and not given.write))


if __name__ == "__main__":
    main()
