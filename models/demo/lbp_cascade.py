"""Reading a face detector of the old school: a boosted cascade on local binary patterns.

The file is OpenCV's `lbpcascade_frontalface`, which ships with scikit-image: 20 stages, 139 features, a window of
24 px. Source: Liao et al. 2007, "Learning Multi-scale Block Local Binary Patterns for Face Recognition".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from skimage.data import lbp_frontal_face_cascade_filename

WINDOW: Final = 24
"""Side in px of the window that the cascade judges."""
_CODES: Final = 256


@dataclass(frozen=True)
class Feature:
    """A grid of 3 x 3 blocks in the window: the first block's corner (`x`, `y`) and size (`width`, `height`), in px.

    `votes` [256], float32: what each code of the grid adds to the stage's sum.
    """

    x: int
    y: int
    width: int
    height: int
    votes: NDArray[np.float32]


@dataclass(frozen=True)
class Stage:
    """A window passes if the votes of all features sum up to `threshold`."""

    features: list[Feature]
    threshold: float


def read_cascade() -> list[Stage]:
    """Read the cascade that ships with scikit-image."""
    root = ElementTree.parse(Path(lbp_frontal_face_cascade_filename())).getroot()  # noqa: S314  # a package's own file
    cascade = root[0]
    corners = [_numbers(rect) for rect in cascade.iterfind("features/_/rect")]
    return [
        Stage(
            features=[_feature(weak, corners) for weak in stage.iterfind("weakClassifiers/_")],
            threshold=_numbers(stage.find("stageThreshold"))[0],
        )
        for stage in cascade.iterfind("stages/_")
    ]


def _feature(weak: ElementTree.Element, corners: list[list[float]]) -> Feature:
    _, _, index, *words = map(int, _numbers(weak.find("internalNodes")))
    inside, outside = _numbers(weak.find("leafValues"))
    bits = np.unpackbits(np.array(words, dtype="<i4").view(np.uint8), bitorder="little")
    assert len(bits) == _CODES
    x, y, width, height = map(int, corners[index])
    return Feature(x, y, width, height, votes=np.where(bits, inside, outside).astype(np.float32))


def _numbers(element: ElementTree.Element | None) -> list[float]:
    assert element is not None and element.text
    return [float(word) for word in element.text.split()]
