"""Whose face a portrait shows, by two judges that share nothing with the demo networks.

Both compare aligned face crops, and neither minds another brightness or contrast: one compares structure px by px, the
other the directions of edges in cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.feature import hog
from skimage.filters import gaussian
from skimage.metrics import structural_similarity
from skimage.transform import resize

Picture = NDArray[np.floating]
"""An aligned face crop, RGB [512, 512, 3] in 0..1."""

_SIDE: Final = 128
"""Faces are compared at this side."""
_CELL: Final = 16
_ORIENTATIONS: Final = 8
_HEAD: Final = (64.0, 66.0, 31.0, 47.0)
"""x, y of the middle and half the width and height of the face without hair and background, in px of `_SIDE`."""


@dataclass(frozen=True)
class Verdict:
    """What one judge says of one portrait.

    `own`: similarity to the portrait's own input, up to 1. `other`: to the closest of the other inputs. `rank`: 1 if
    its own input is the closest of all.
    """

    judge: str
    portrait: int
    own: float
    other: float
    rank: int

    @property
    def right(self) -> bool:
        """Whether the portrait's own input is closer than all others."""
        return self.rank == 1


def identity_table(inputs: Sequence[Picture], outputs: Sequence[Picture]) -> list[Verdict]:
    """Every judge's verdict on every portrait; `outputs[i]` shows the face of `inputs[i]`. At least two of each."""
    if len(inputs) != len(outputs) or len(inputs) < 2:
        raise ValueError(f"{len(outputs)} portraits of {len(inputs)} faces cannot be compared")
    faces, portraits = [_prepared(face) for face in inputs], [_prepared(portrait) for portrait in outputs]
    return [
        _verdict(name, at, np.array([judge(face, portrait) for face in faces]))
        for name, judge in JUDGES.items()
        for at, portrait in enumerate(portraits)
    ]


def structure(face: NDArray[np.floating], portrait: NDArray[np.floating]) -> float:
    """Structural similarity within the face, -1..1, of two prepared grey crops [128, 128]."""
    _, similar = structural_similarity(
        face, portrait, data_range=6.0, gaussian_weights=True, sigma=3.0, use_sample_covariance=False, full=True
    )
    return float(np.average(similar, weights=_head()))


def edges(face: NDArray[np.floating], portrait: NDArray[np.floating]) -> float:
    """Correlation of the directions of edges by cells, -1..1, of two prepared grey crops [128, 128]."""
    first, second = (_directions(grey) for grey in (face, portrait))
    return float((first * second).sum() / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-3))


JUDGES: Final[dict[str, Callable[[NDArray[np.floating], NDArray[np.floating]], float]]] = {
    "structure": structure,
    "edges": edges,
}


def _verdict(judge: str, portrait: int, similarities: NDArray[np.float64]) -> Verdict:
    own = similarities[portrait]
    others = np.delete(similarities, portrait)
    # Ties count against the portrait.
    return Verdict(judge, portrait, float(own), float(others.max()), int(1 + (others >= own).sum()))


def _prepared(crop: Picture) -> NDArray[np.float64]:
    """Grey [128, 128], slow changes of light removed, of mean 0 and deviation 1 within the face."""
    grey = resize(rgb2gray(np.asarray(crop, np.float64)), (_SIDE, _SIDE), anti_aliasing=True)
    grey = gaussian(grey, 1.0) - 0.7 * gaussian(grey, 20.0)
    weights = _head()
    mean = np.average(grey, weights=weights)
    deviation = np.sqrt(np.average((grey - mean) ** 2, weights=weights))
    return np.asarray((grey - mean) / max(float(deviation), 1e-3))


def _directions(grey: NDArray[np.floating]) -> NDArray[np.float64]:
    """Histograms of the edges' directions [cells, cells, directions], less their mean, by the head's share."""
    found = hog(
        grey * _head() ** 0.5,
        orientations=_ORIENTATIONS,
        pixels_per_cell=(_CELL, _CELL),
        cells_per_block=(1, 1),
        feature_vector=False,
    )[:, :, 0, 0]
    share = _head().reshape(_SIDE // _CELL, _CELL, _SIDE // _CELL, _CELL).mean((1, 3))[..., None]
    mean = (found * share).sum((0, 1)) / share.sum()
    return np.asarray((found - mean) * share)


def _head() -> NDArray[np.float64]:
    """1 in the face, 0 outside, soft between."""
    x, y, wide, tall = _HEAD
    at = np.arange(_SIDE) + 0.5
    radius = np.hypot((at - x) / wide, (at[:, None] - y) / tall)
    return np.asarray(np.clip((1.15 - radius) / 0.3, 0, 1))
