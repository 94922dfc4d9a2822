"""What every evaluation does to call a pipeline as the worker does: files in, pictures out, progress on the console."""

from __future__ import annotations

import io
import sys

from PIL import Image

from models.errors import NonFiniteResult
from models.pipeline import Outcome
from training.data.photos import Picture


def encode_png(photo: Picture) -> bytes:
    """The photo as a file."""
    out = io.BytesIO()
    Image.fromarray(photo).save(out, "PNG", compress_level=1)
    return out.getvalue()


def first_picture(outcome: Outcome) -> Picture:
    """The first picture of a request; raises `NonFiniteResult` if it has none."""
    if isinstance(outcome, NonFiniteResult):
        raise outcome
    picture: Picture = outcome[0]
    return picture


def ignore_step(_step: int, _total: int) -> None:
    """Progress of a request, which is not used."""


def print_progress(line: str) -> None:
    """Write a line to the console's error stream, at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
