"""Shading of a subject, of which only the outline is known, and of the wall behind it.

The subject's surface is approximated by inflating its mask: blurred at several widths, the mask is a height field whose
slopes serve as the subject's. Light is a factor on stored (gamma-encoded) colours.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.ic_light.params import LightSource
from training.data.lighting_styles import LightingStyle
from training.data.shapes import Colours, Field, as_float32, blur, enlarge, luma, smooth_noise

LIGHT_DIRECTIONS: Final[dict[LightSource, tuple[float, float]]] = {
    "Left Light": (-1.0, 0.0),
    "Right Light": (1.0, 0.0),
    "Top Light": (0.0, -1.0),
    "Bottom Light": (0.0, 1.0),
}
"""Direction towards the light, as x to the right and y down."""

_BLUR_SHARES: Final = (0.03, 0.08, 0.18)
"""Sigmas of the blurs that inflate a mask, as shares of the picture's shorter side."""
_DARK_SIDE: Final = 0.17
_LIT_SIDE: Final = 1.4
_KNEE: Final = 0.8
"""Levels above are compressed towards 1."""
_COARSE: Final = 4
"""Px of a picture per px of the coarse grid on which smooth light is computed."""


def shade_subject(picture: Colours, alpha: Field, light: LightSource) -> Field:
    """The factor [height, width] on the subject's colours: about 0.2 on the far side to 1.35 on the lit one.

    Without a light source the light is soft and frontal, and the factor near 1.
    """
    height, width = alpha.shape
    coarse = (height // _COARSE, width // _COARSE)
    slopes = _surface_slopes(alpha)
    if light == "None":
        steepness = np.hypot(*slopes)
        return enlarge(1.06 - 0.17 * np.tanh(steepness) - 0.06 * _distance(*coarse) ** 2, width, height)
    x, y = LIGHT_DIRECTIONS[light]
    facing = x * slopes[0] + y * slopes[1]
    position = _position(coarse, alpha, light)
    lit = 1 / (1 + np.exp(-(1.8 * np.tanh(facing) + 1.7 * position)))
    return enlarge(_DARK_SIDE + (_LIT_SIDE - _DARK_SIDE) * lit, width, height) * _relief(picture, light)


def shade_wall(rng: np.random.Generator, width: int, height: int, light: LightSource) -> Field:
    """The factor [height, width] on a wall's colour: about 0.9 on the light's side, 0.06 on the other."""
    columns, rows = _grid(height // _COARSE, width // _COARSE)
    if light == "None":
        even = rng.uniform(0.58, 0.72) * (1.04 - 0.13 * (columns**2 + rows**2))
        return enlarge(even, width, height)
    x, y = LIGHT_DIRECTIONS[light]
    tilt = rng.uniform(-0.22, 0.22)
    along = x * columns + y * rows + tilt * (x * rows + y * columns) - 0.12 * (y * columns + x * rows) ** 2
    near, far = rng.uniform(0.98, 1.06), rng.uniform(0.04, 0.08)
    ramp = far + (near - far) / (1 + np.exp(-rng.uniform(3.6, 4.4) * along))
    return enlarge(ramp, width, height)


def sample_wall_colours(
    rng: np.random.Generator, width: int, height: int, style: LightingStyle, light: LightSource
) -> Colours:
    """Sample the wall's albedo [height, width, 3] in 0..1."""
    first, second = (as_float32(wall) for wall in style.walls)
    share = _share(rng, width, height, style, light)[..., None]
    cast = (1 + rng.uniform(-0.008, 0.008, 3)) * rng.uniform(0.92, 1.06)
    grain = 1 + 0.025 * smooth_noise(rng, width, height, 5)[..., None]
    return as_float32((first + (second - first) * share) * grain * as_float32(cast))


def soft_clip(levels: Colours) -> Colours:
    """Bring levels above 1 back into 0..1: all channels by one factor, then slightly towards white."""
    # Three slices are many times faster than a maximum along an axis of three.
    peak = np.maximum(np.maximum(levels[..., 0], levels[..., 1]), levels[..., 2])
    over = np.maximum(peak - _KNEE, 0)
    bent = np.minimum(peak, _KNEE) + (1 - _KNEE) * (1 - np.exp(-over / (1 - _KNEE)))
    paler = np.clip(0.35 * (peak - 1), 0, 0.4)
    factor = bent / np.maximum(peak, 1e-6) * (1 - paler)
    return np.clip(levels * factor[..., None] + (bent * paler)[..., None], 0, 1)


def _surface_slopes(alpha: Field) -> tuple[Field, Field]:
    """Slopes of the surface facing the camera, to the right and down: about -1.5..1.5, on the coarse grid."""
    height, width = alpha.shape
    small = enlarge(alpha, width // _COARSE, height // _COARSE)
    across, down = np.zeros_like(small), np.zeros_like(small)
    for share in _BLUR_SHARES:
        sigma = share * min(small.shape)
        slope_down, slope_across = np.gradient(blur(small, sigma))
        across -= 1.3 * sigma * slope_across
        down -= 1.3 * sigma * slope_down
    return across, down


def _position(coarse: tuple[int, int], alpha: Field, light: LightSource) -> Field:
    """Position along the light's direction, in standard deviations of the subject, on the coarse grid."""
    columns, rows = _grid(*coarse)
    x, y = LIGHT_DIRECTIONS[light]
    along = x * columns + y * rows
    weight = enlarge(alpha, coarse[1], coarse[0]) + 1e-3
    centre = np.average(along, weights=weight)
    spread = np.sqrt(np.average((along - centre) ** 2, weights=weight))
    return as_float32((along - centre) / max(float(spread), 0.1))


def _relief(picture: Colours, light: LightSource) -> Field:
    """Small relief from the picture's own brightness: a factor of about 0.85..1.15."""
    height, width = picture.shape[:2]
    small = enlarge(luma(picture), width // 2, height // 2)
    detail = blur(small, 0.012 * min(small.shape)) - blur(small, 0.05 * min(small.shape))
    x, y = LIGHT_DIRECTIONS[light]
    slope = np.gradient(detail, axis=1 if x else 0) * -(x + y)
    return enlarge(1 + 0.15 * np.tanh(14 * slope), width, height)


def _share(rng: np.random.Generator, width: int, height: int, style: LightingStyle, light: LightSource) -> Field:
    """The second wall colour's share in the first."""
    columns, rows = _grid(height // _COARSE, width // _COARSE)
    match style.backdrop:
        case "wall":
            return np.zeros((height, width), np.float32)
        case "sunset":
            return enlarge(_sigmoid(rows + rng.uniform(-0.2, 0.2)), width, height)
        case "neon":
            # Without a light source the first colour is on the left.
            x, y = LIGHT_DIRECTIONS.get(light, (-1.0, 0.0))
            return enlarge(_sigmoid(-(x * columns + y * rows)), width, height)
        case "leaves":
            noise = 0.7 * smooth_noise(rng, width, height, 4) + 0.4 * smooth_noise(rng, width, height, 9)
            return _sigmoid(as_float32(1.3 * noise))


def _sigmoid(value: Field) -> Field:
    return as_float32(1 / (1 + np.exp(-3 * value)))


def _grid(height: int, width: int) -> tuple[Field, Field]:
    """x and y of every px, each in -1..1."""
    columns, rows = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    return np.broadcast_to(columns, (height, width)), np.broadcast_to(rows[:, None], (height, width))


def _distance(height: int, width: int) -> Field:
    return np.hypot(*_grid(height, width))
