"""What the first attempt at trained demo weights drew, for comparison: its noise, measured with our own measure."""

from __future__ import annotations

from typing import Final

import numpy as np

from training.data.photos import Picture
from training.evaluation.metrics import Box, flat_noise

CELL: Final = (256, 320)
"""(width, height) in px of a picture on its sheet, reduced from 768 x 960. Ours are measured at the same scale."""
_LIT: Final = (1, 2, 3, 4)
"""Columns of the first row that hold relit pictures, an astronaut lit from left, right, top and bottom."""
_BACKGROUND: Final[tuple[Box, ...]] = ((8, 12, 52, 78), (172, 20, 240, 108))
"""Plain wall in all of them, left and right of the head."""
NOISE: Final = 3.36
"""What `sheet_noise` finds on that sheet, in levels. Kept as a figure: the sheet is not part of the project."""


def sheet_noise(sheet: Picture) -> float:
    """Noise of the sheet's relit backgrounds in levels, the root mean square over its pictures."""
    width, height = CELL
    cells = [sheet[:height, column * width : (column + 1) * width] for column in _LIT]
    return float(np.sqrt(np.mean([flat_noise(cell, _BACKGROUND) ** 2 for cell in cells])))
