"""The start picture that sets the light's direction (IC-Light specification section 4)."""

from __future__ import annotations

import numpy as np

from models.ic_light.params import LightSource
from models.ic_light.subject import Rgb


def light_gradient(light_source: LightSource, width: int, height: int) -> Rgb | None:
    """Draw a ramp from white on the light's side to black on the other; None if the direction is left open."""
    if light_source == "None":
        return None
    along_width = light_source in ("Left Light", "Right Light")
    ends = (255, 0) if light_source in ("Left Light", "Top Light") else (0, 255)
    # astype truncates; rounding would shift half of the levels by one.
    ramp = np.linspace(*ends, width if along_width else height).astype(np.uint8)
    line = ramp[None, :, None] if along_width else ramp[:, None, None]
    return np.broadcast_to(line, (height, width, 3)).copy()
