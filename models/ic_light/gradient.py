"""Pictures of nothing but light from one side (IC-Light specification sections 4 and 17)."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.ic_light.params import LightSource
from models.ic_light.subject import Rgb

START_LEVELS: Final = (255, 0)
"""Levels of a start picture, on the light's side and on the other."""
BACKGROUND_LEVELS: Final = (224, 32)
"""The same of a background that stands for light alone, as the 12-channel model was trained with."""


def light_gradient(
    light_source: LightSource, width: int, height: int, levels: tuple[int, int] | None = None
) -> Rgb | None:
    """Draw a ramp from the light's side to the other; None if the direction is left open.

    `levels` are those of the two sides, `START_LEVELS` if not given.
    """
    if light_source == "None":
        return None
    along_width = light_source in ("Left Light", "Right Light")
    bright, dark = START_LEVELS if levels is None else levels
    ends = (bright, dark) if light_source in ("Left Light", "Top Light") else (dark, bright)
    # astype truncates; rounding would shift half of the levels by one.
    ramp = np.linspace(*ends, width if along_width else height).astype(np.uint8)
    line = ramp[None, :, None] if along_width else ramp[:, None, None]
    return np.broadcast_to(line, (height, width, 3)).copy()
