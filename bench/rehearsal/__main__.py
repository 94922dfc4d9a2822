"""A rehearsal of an installation without its files: `python -m bench.rehearsal`, `make rehearsal`.

Every file that weights.lock names is written at its published size and layout with random values, installed by the
ordinary command from a mirror, loaded by a worker on the processor, and served over HTTP. Then the same with too little
memory, with one checkpoint too many and with a truncated file. No network is needed; the disk needs 31 GB, the machine
about 16 GB of memory. `--reduced` does the same with narrow networks.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from bench.rehearsal import faults
from bench.rehearsal.install import Place, install, install_further, missing_bytes, needed_bytes, verify
from bench.rehearsal.layouts import networks
from bench.rehearsal.published import Publisher
from bench.rehearsal.requests import serve_each
from bench.report import RESULTS, Report
from cli.weights.selection import SelectionOptions, select
from models.weights.lock import SHIPPED_LOCK, Weight, read_lock

_FOLDER: Final = Path("var/rehearsal")
_INSTEAD: Final = "stable-diffusion-v1.5"
"""The base of ic-light whose sizes are known; those of the default one are not published."""
_FAULTS: Final = {
    "memory": faults.too_little_memory,
    "checkpoints": faults.one_checkpoint_too_many,
    "truncated": faults.one_truncated_file,
}
_PARTS: Final = ("install", "serve", *_FAULTS, "verify", "further")


def main(argv: Sequence[str] | None = None) -> int:
    """Rehearse; the exit status is 1 if a goal was missed."""
    options = _parser().parse_args(argv)
    place, reduced = Place(options.folder.resolve()), options.reduced
    for folder in (place.mirror, place.data):
        folder.mkdir(parents=True, exist_ok=True)
    publisher = Publisher(place.mirror, networks(reduced), reduced, fill=not reduced)
    chosen, further = _weights(options.without)
    parts = options.only or _PARTS
    if missing := missing_bytes(place.root, needed := needed_bytes(chosen, further, publisher)):
        sys.exit(f"{place.root} lacks {missing / 1e9:.1f} of {needed / 1e9:.1f} GB: choose another disk with --folder.")
    with Report(f"rehearsal{'-reduced' if reduced else ''}", folder=options.out) as report:
        if "install" in parts:
            install(report, place, publisher, chosen, at_once=reduced)
        if set(parts) & {"serve", *_FAULTS}:
            served = serve_each(report, place)
            for name in (name for name in _FAULTS if name in parts):
                _FAULTS[name](report, place, served)
        if "verify" in parts:
            verify(report, place)
        if "further" in parts:
            if not options.keep:
                shutil.rmtree(place.weights, ignore_errors=True)
            install_further(report, place, publisher, [it for it in further if publisher.can_write(it)])
        left_out = [it.name for it in further if not publisher.can_write(it)]
        report.add("weights that were not written", len(left_out), "", note=f"{', '.join(left_out)}: layout not known")
    if not options.keep:
        shutil.rmtree(place.root)
    return int(not report.record.complete or any(it.reached is False for it in report.record.rows))


def _weights(without: Collection[str]) -> tuple[list[Weight], list[Weight]]:
    """Weights that are served, the defaults as far as their sizes are known, and all others."""
    lock = read_lock(SHIPPED_LOCK)
    known = [weight for weight in lock.weights if weight.name not in without]
    defaults = select(lock, (), SelectionOptions(use=[_INSTEAD])).weights
    served = [weight for weight in known if weight in defaults and all(file.size for file in weight.files)]
    return served, [weight for weight in known if weight not in served]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.rehearsal", description=__doc__)
    parser.add_argument("--only", action="append", choices=_PARTS, help="leave out the others; may be given repeatedly")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="a weight to leave out")
    parser.add_argument("--reduced", action="store_true", help="narrow networks: seconds, and megabytes")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where all files lie (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the files; a later run goes on from them")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
