"""Whether a portrait shows the person of the photo, by a face recogniser.

The measure is the cosine between two ArcFace embeddings. Published figures for this family of networks: photos of two
different people pass 0.28 once in a thousand pairs (ArcFace on LFW), the decision value in common use is 0.32
(DeepFace), and 0.35 is the largest that a published test met between the people of one scenario photo. So 0.30 means "a
recogniser takes them for the same person", and 0.40 leaves no room for a chance likeness. The recogniser is the very
one that pulid-lightning is told the face with, which flatters: the measure says that the identity came through, not
how a stranger would see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cli.accept.result import CheckResult, at_least, passed_if

Embedding = NDArray[np.float32]
"""A face as its recogniser describes it, [512], of any length."""

TITLE: Final = "Same person"
THRESHOLDS: Final[Mapping[str, float]] = {"high-fidelity": 0.40, "stylized": 0.30}
"""The least cosine by face style: a stylized portrait is to be recognised, a faithful one beyond doubt."""


def same_person(photo: Embedding | None, portraits: Sequence[Embedding | None], face_style: str) -> CheckResult:
    """Check portraits of one style, None for one without a face; the value is the median cosine.

    The median, because one portrait turned away says little about a server; but each must show a face.
    """
    if photo is None:
        return passed_if(TITLE, False, "No face was found in the photo itself.")
    cosines = [cosine(photo, portrait) for portrait in portraits if portrait is not None]
    if len(cosines) < len(portraits) or not cosines:
        without = len(portraits) - len(cosines)
        return passed_if(TITLE, False, f"No face was found in {without} of {len(portraits)} portraits.")
    message = f"Likeness to the photo, median of {len(cosines)}; 1 is the same picture, 0 a stranger."
    return at_least(TITLE, median(cosines), THRESHOLDS[face_style], message)


def cosine(first: Embedding, second: Embedding) -> float:
    """Cosine of the angle between two embeddings: -1..1."""
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / lengths) if lengths else 0.0
