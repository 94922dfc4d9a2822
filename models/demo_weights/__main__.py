"""`python -m models.demo_weights DIR`: make sure that DIR holds the demo weights."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from models.demo_weights.build import build


def main() -> None:
    """Build the demo weights where there are none yet."""
    parser = argparse.ArgumentParser(prog="python -m models.demo_weights", description=__doc__)
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.info("demo weights %s in %s", "built" if build(directory) else "found", directory)


main()
