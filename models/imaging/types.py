"""Array types of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
"""One RGB image of 8 bits: [height, width, 3]."""
Floats = NDArray[np.floating[Any]]
