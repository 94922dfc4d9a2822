"""Run the composition on a container engine: `python -m tests.engine`, or `make engine-test`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.engine.composition import Composition
from tests.engine.engine import NoEngine, engine
from tests.engine.report import Report
from tests.engine.standins import IMAGES, make_standins
from tests.engine.steps import STEPS


def main() -> int:
    """Run all steps, and write the report; 0 if they passed, or if there is no engine, which is said."""
    options = _parser().parse_args()
    try:
        with engine(options.folder) as environment:
            images = {} if options.pinned_images else IMAGES
            if images:
                make_standins(environment)
            _run(options, environment, images)
    except NoEngine as reason:
        sys.stdout.write(f"engine test skipped: {reason}\n")
    except (AssertionError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _run(options: argparse.Namespace, environment: dict[str, str], images: dict[str, str]) -> None:
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        composition = Composition(Path(folder), environment, images, options.busy)
        try:
            for name, step in STEPS:
                with report.step(name) as figures:
                    step(composition, figures)
        finally:
            composition.tries("docker compose logs --no-color --timestamps >/tmp/facelight-engine-test.log 2>&1")
            composition.tries("docker compose --profile '*' down --volumes --remove-orphans --timeout 5")
            bases = "stand-ins made of Debian packages" if images else "those pinned in the project"
            report.write(options.report, f"Base images: {bases}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.engine", description=__doc__)
    folder = Path(tempfile.gettempdir(), "facelight-engine")
    parser.add_argument("--folder", type=Path, default=folder, help="of an engine of our own (%(default)s); 12 GB")
    parser.add_argument("--pinned-images", action="store_true", help="build on the pinned base images, from a registry")
    parser.add_argument("--busy", type=float, default=60, help="seconds of the job during an upgrade (%(default)s)")
    parser.add_argument("--report", type=Path, default=Path("out/engine-test.md"), help="file (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
