"""What stands behind the person of a portrait: plain colours, places, or a blotchy backdrop of any hue.

Large forms are placed in ramp units, so they keep their place beside the face in every picture. Random details are as
large as noise can decide them: blobs of 80 to 160 px, whatever the picture's size.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from training.data.shapes import Colour, Colours, Field, as_float32

PALETTE: Final[dict[str, Colour]] = {
    "red": as_float32((0.80, 0.08, 0.10)),
    "blue": as_float32((0.10, 0.26, 0.84)),
    "green": as_float32((0.10, 0.56, 0.20)),
    "yellow": as_float32((0.97, 0.83, 0.13)),
    "black": as_float32((0.05, 0.05, 0.06)),
    "white": as_float32((0.95, 0.95, 0.95)),
    "pink": as_float32((0.98, 0.55, 0.72)),
    "purple": as_float32((0.45, 0.15, 0.64)),
    "orange": as_float32((0.97, 0.50, 0.08)),
}
MAGENTA: Final = as_float32((1.0, 0.1, 0.75))
CYAN: Final = as_float32((0.05, 0.85, 1.0))

_STEP: Final = 2
"""Backdrops are drawn at this part of the size and enlarged."""


class Frame:
    """Coordinates of a picture's pixels.

    `x` [1, columns] and `y` [rows, 1] are in ramp units: 0 in the middle, and 1 is half of the side of a square of the
    same mean square side. With a `step` above 1, of every so many px, each way, one is drawn.
    """

    def __init__(self, height: int, width: int, step: int = 1) -> None:
        self.height, self.width, self.step = height, width, step
        self.shape = (-(-height // step), -(-width // step))
        self.unit = float(np.sqrt((width**2 + height**2) / 2)) / 2
        """px in a ramp unit."""
        rows, columns = (step * (np.arange(count, dtype=np.float32) + np.float32(0.5)) for count in self.shape)
        self.x = as_float32((columns - width / 2) / self.unit)[None]
        self.y = as_float32((rows - height / 2) / self.unit)[:, None]
        self.right, self.bottom = width / 2 / self.unit, height / 2 / self.unit
        """The picture's edges in ramp units."""

    def blobs(self, rng: np.random.Generator, size: float, channels: int = 1, stretch: float = 1.0) -> Field:
        """Smooth noise of deviation about 1 whose blobs are `size` px high and `stretch` times as wide.

        [height, width], or [height, width, channels] for more than one channel.
        """
        cells = (size / 2 / self.step, stretch * size / 2 / self.step)
        count = [int(np.ceil(side / cell)) + 4 for side, cell in zip(self.shape, cells, strict=True)]
        grid = as_float32(rng.normal(0, 1.35, (*count, channels)))
        start = rng.uniform(1, 2, 2)
        map_ = as_float32([(1 / cells[1], 0, start[1]), (0, 1 / cells[0], start[0])])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        smooth = cv2.GaussianBlur(grid, (3, 3), 0.7) * 1.8
        return as_float32(cv2.warpAffine(smooth, map_, self.shape[::-1], flags=flags))

    def discs(self, places: npt.ArrayLike, radii: npt.ArrayLike, softness: float) -> Field:
        """Filled discs around `places` [n, 2] of `radii` [n], both in ramp units; 1 inside. `softness` is in px."""
        canvas = np.zeros(self.shape, np.uint8)
        scale = self.unit / self.step
        centre = (self.width / 2 / self.step, self.height / 2 / self.step)
        for (x, y), radius in zip(np.reshape(places, (-1, 2)), np.reshape(radii, -1), strict=True):
            at = (round(16 * (x * scale + centre[0])), round(16 * (y * scale + centre[1])))
            cv2.circle(canvas, at, max(1, round(16 * radius * scale)), 255, -1, cv2.LINE_AA, 4)
        sigma = softness / self.step
        return as_float32(cv2.GaussianBlur(canvas, (0, 0), sigma) if sigma > 0.3 else canvas) / np.float32(255)

    def scatter(self, rng: np.random.Generator, each: float) -> npt.NDArray[np.float64]:
        """Random places [n, 2] in ramp units over all of the picture: about one in every `each` x `each` px."""
        count = max(1, rng.poisson(self.height * self.width / each**2))
        return rng.uniform(-1, 1, (count, 2)) * (self.right, self.bottom)


def backdrop(rng: np.random.Generator, background: str | None, height: int, width: int) -> Colours:
    """A picture [height, width, 3] of a named background, one of `PALETTE` or of the places; None: blotches."""
    frame = Frame(height, width, _STEP)
    if background is None:
        small = _blotches(rng, frame)
    elif background in PALETTE:
        small = _plain(rng, frame, PALETTE[background])
    else:
        small = _PLACES[background](rng, frame)
    return as_float32(cv2.resize(np.clip(small, 0, 1), (width, height), interpolation=cv2.INTER_LINEAR))


def smoothstep(values: npt.NDArray[np.floating], start: float, end: float) -> Field:
    """0 up to `start`, 1 from `end` on, and smooth between them; falls where `end` is below `start`."""
    share = np.clip((values - start) / (end - start), 0, 1)
    return as_float32(share * share * (3 - 2 * share))


def mottled(rng: np.random.Generator, frame: Frame, size: float) -> Colours:
    """Blobs of `size` px of two or three random colours, far apart."""
    hue = rng.random()
    colours = [
        as_float32(colorsys.hsv_to_rgb((hue + turn) % 1, rng.uniform(0.35, 0.9), value))
        for turn, value in zip((0, rng.uniform(0.1, 0.9), rng.uniform(-0.2, 0.2)), _values(rng), strict=True)
    ]
    noise = frame.blobs(rng, size, 2)
    shares = smoothstep(noise, -0.7, 0.7)
    mixed = colours[0] + (colours[1] - colours[0]) * shares[..., :1]
    return as_float32(mixed + (colours[2] - mixed) * shares[..., 1:] * np.float32(0.8))


def _values(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    dark, middle, bright = rng.uniform(0.12, 0.4), rng.uniform(0.35, 0.7), rng.uniform(0.65, 1.0)
    return rng.permutation(np.array([dark, middle, bright]))


def _blotches(rng: np.random.Generator, frame: Frame) -> Colours:
    colours = mottled(rng, frame, rng.uniform(100, 160))
    places = frame.scatter(rng, 170)
    glow = frame.discs(places, rng.uniform(40, 75, len(places)) / frame.unit, 8)
    tint = as_float32(colorsys.hsv_to_rgb(rng.random(), 0.35, 1.0))
    return as_float32(colours + (tint - colours) * (rng.uniform(0.15, 0.45) * glow)[..., None])


def _plain(rng: np.random.Generator, frame: Frame, colour: Colour) -> Colours:
    vignette = 1.06 - 0.16 * (frame.x**2 + frame.y**2)
    shade = vignette * (1 + 0.035 * frame.blobs(rng, 140))
    return as_float32(colour * shade[..., None] + 0.012 * frame.blobs(rng, 120)[..., None])


def _sunset(rng: np.random.Generator, frame: Frame) -> Colours:
    levels = (-1.2, -0.75, -0.35, 0.05, 0.4)
    sky = ((0.25, 0.10, 0.42), (0.55, 0.17, 0.50), (0.92, 0.34, 0.32), (1.0, 0.58, 0.18), (1.0, 0.80, 0.36))
    colours = _gradient(frame, levels, sky)
    clouds = smoothstep(frame.blobs(rng, 60, stretch=3), 0.2, 1.3) * smoothstep(frame.y, 0.4, 0.1)
    colours = colours + (as_float32((0.60, 0.16, 0.36)) - colours) * (0.6 * clouds)[..., None]
    side = rng.choice((-1, 1)) * min(0.74, 0.86 * frame.right)
    place = (side, rng.uniform(-0.5, -0.05))
    glow = np.exp(-((frame.x - place[0]) ** 2 + (frame.y - place[1]) ** 2) / 0.18)
    colours = colours + as_float32((0.35, 0.22, 0.02)) * glow[..., None]
    colours = _over(colours, (1.0, 0.95, 0.66), frame.discs(place, 0.2, 2))
    ground = smoothstep(frame.y, 0.41, 0.43)
    return _over(colours, (0.22, 0.08, 0.22), ground * (0.85 + 0.15 * np.tanh(frame.blobs(rng, 40, stretch=4))))


def _neon(rng: np.random.Generator, frame: Frame) -> Colours:
    dark = as_float32((0.035, 0.02, 0.09))
    colours = as_float32(dark * (1 + 0.5 * np.tanh(frame.blobs(rng, 120)))[..., None])
    slant = rng.uniform(-0.25, 0.25)
    for tint, low in ((MAGENTA, -1.0), (CYAN, 0.0)):  # the first left of the face, the other right of it
        for part in range(2):
            at = low + 0.5 * part + rng.uniform(0.05, 0.45)
            away = np.abs(frame.x - at * frame.right - slant * frame.y)
            top, end = sorted(rng.uniform(-1.1, 1.1, 2) * frame.bottom)
            end = max(end, top + 0.9)
            past = np.maximum(np.maximum(top - frame.y, frame.y - end), 0)
            distance = np.hypot(away, past)
            half = max(0.035, 8 / frame.unit)
            glow = 0.75 * np.exp(-distance / 0.16)
            core = smoothstep(as_float32(distance), half * 1.3, half * 0.7)
            colours = as_float32(colours + tint * as_float32(glow)[..., None])
            colours = _over(colours, tint * 0.45 + 0.55, core)
    return colours


def _forest(rng: np.random.Generator, frame: Frame) -> Colours:
    leaves = frame.blobs(rng, 90, 2)
    shadow = np.broadcast_to(as_float32((0.04, 0.17, 0.06)), (*frame.shape, 3))
    colours = _over(shadow, (0.20, 0.46, 0.12), smoothstep(leaves[..., 0], -1.0, 1.0))
    colours = _over(colours, (0.52, 0.70, 0.20), smoothstep(leaves[..., 1], 0.5, 1.6) * smoothstep(frame.y, 0.9, -0.2))
    at = -frame.width / 2 + rng.uniform(20, 110)
    while at < frame.width / 2:
        half = rng.uniform(13, 27)
        across = (frame.x * frame.unit - at - 8 * np.sin(frame.y * 2 + at)) / half
        trunk = smoothstep(as_float32(np.abs(across)), 1.1, 0.9)
        bark = as_float32((0.27, 0.17, 0.09)) * (1 - 0.45 * np.clip(across, -1, 1))[..., None]
        colours = _over(colours, bark, trunk)
        at += rng.uniform(95, 190)
    return _over(colours, (0.12, 0.22, 0.06), 0.8 * smoothstep(frame.y, 0.45, 0.75))


def _beach(rng: np.random.Generator, frame: Frame) -> Colours:
    colours = _gradient(frame, (-1.0, 0.0), ((0.25, 0.58, 0.95), (0.72, 0.90, 1.0)))
    clouds = smoothstep(frame.blobs(rng, 75, stretch=2), 0.5, 1.4) * smoothstep(frame.y, 0.0, -0.3)
    colours = _over(colours, (1, 1, 1), 0.9 * clouds)
    waves = np.tanh(frame.blobs(rng, 24, stretch=5))
    sea = (
        as_float32((0.03, 0.45, 0.62))
        + as_float32((0.12, 0.20, 0.18)) * (0.35 * waves + smoothstep(frame.y, 0.0, 0.4))[..., None]
    )
    colours = _over(colours, sea, smoothstep(frame.y, -0.01, 0.01))
    shore = as_float32(frame.y + 0.03 * frame.blobs(rng, 160) + 0.05 * frame.x)
    colours = _over(colours, (0.97, 0.98, 0.98), smoothstep(shore, 0.33, 0.36))
    sand = as_float32((0.93, 0.80, 0.55)) * (1 + 0.06 * np.tanh(frame.blobs(rng, 60)))[..., None]
    return _over(colours, sand, smoothstep(shore, 0.38, 0.42))


def _snow(rng: np.random.Generator, frame: Frame) -> Colours:
    colours = _gradient(frame, (-1.0, 0.4), ((0.42, 0.52, 0.66), (0.68, 0.76, 0.86)))
    colours = as_float32(colours * (1 + 0.07 * np.tanh(frame.blobs(rng, 120)))[..., None])
    hills = as_float32(frame.y + 0.05 * np.tanh(frame.blobs(rng, 160)))
    colours = _over(colours, (0.93, 0.96, 1.0), smoothstep(hills, 0.38, 0.45))
    return _over(colours, (1, 1, 1), flakes(rng, frame))


def flakes(rng: np.random.Generator, frame: Frame) -> Field:
    """Where snowflakes are: discs of 14 to 32 px."""
    places = frame.scatter(rng, 62)
    return frame.discs(places, rng.uniform(7, 16, len(places)) / frame.unit, 2)


def _night(rng: np.random.Generator, frame: Frame) -> Colours:
    colours = _gradient(frame, (-1.0, 0.6), ((0.015, 0.025, 0.11), (0.07, 0.11, 0.30)))
    colours = as_float32(colours * (1 + 0.25 * np.tanh(frame.blobs(rng, 140)))[..., None])
    stars = [place for place in frame.scatter(rng, 75) if place[1] < 0.1]
    colours = _over(colours, (0.85, 0.9, 1.0), 0.9 * frame.discs(stars, [5 / frame.unit] * len(stars), 1.5))
    place = (rng.choice((-1, 1)) * min(0.72, 0.82 * frame.right), rng.uniform(-0.72, -0.5))
    glow = np.exp(-((frame.x - place[0]) ** 2 + (frame.y - place[1]) ** 2) / 0.09)
    colours = as_float32(colours + as_float32((0.16, 0.18, 0.22)) * glow[..., None])
    colours = _over(colours, (0.97, 0.96, 0.86), frame.discs(place, 0.17, 2))
    lamps = [(x, 0.2 + abs(y) * 0.5) for x, y in frame.scatter(rng, 80)]
    for tint in ((1.0, 0.72, 0.25), (1.0, 0.9, 0.6)):
        some = [lamp for lamp in lamps if rng.random() < 0.45]
        colours = _over(colours, tint, 0.75 * frame.discs(some, rng.uniform(10, 22, len(some)) / frame.unit, 3))
    return colours


def _studio(rng: np.random.Generator, frame: Frame) -> Colours:
    x, y = rng.uniform(-0.6, 0.6), rng.uniform(-0.5, 0.3)
    spot = np.exp(-((frame.x - x) ** 2 + (frame.y - y) ** 2) / 0.9)
    grey = 0.25 + 0.5 * spot + 0.025 * frame.blobs(rng, 130)
    return as_float32(grey[..., None] * as_float32((0.98, 1.0, 1.02)))


def _city(rng: np.random.Generator, frame: Frame) -> Colours:
    colours = _gradient(frame, (-1.1, 0.6), ((0.50, 0.68, 0.88), (0.90, 0.90, 0.86)))
    for distance, tops in ((0.45, (-0.9, -0.25)), (0.0, (-0.6, 0.2))):
        at = -frame.width / 2 - rng.uniform(0, 90)
        while at < frame.width / 2:
            wide, top = rng.uniform(85, 165), rng.uniform(*tops)
            colours = _building(rng, frame, colours, (at, wide, top), distance)
            at += wide + rng.uniform(-10, 60) * (1 if distance == 0 else 0.2)
    return _over(colours, (0.30, 0.30, 0.33), smoothstep(frame.y, 0.6, 0.62))


def _building(
    rng: np.random.Generator, frame: Frame, colours: Colours, place: tuple[float, float, float], distance: float
) -> Colours:
    left, wide, top = place
    wall = as_float32(
        rng.uniform(0.28, 0.55) * np.array(rng.choice(([0.9, 1.0, 1.15], [1.2, 0.95, 0.8], [1.0, 1.0, 1.0])))
    )
    x, y = frame.x * frame.unit - left, (frame.y - top) * frame.unit
    inside = smoothstep(x, -1, 1) * smoothstep(x, wide + 1, wide - 1) * smoothstep(y, -1, 1)
    columns = max(2, round(wide / 32))
    pane = smoothstep(as_float32(np.abs((x / wide * columns) % 1 - 0.5)), 0.31, 0.25)
    pane = pane * smoothstep(as_float32(np.abs((y / 34) % 1 - 0.5)), 0.30, 0.24)
    lit = as_float32((0.98, 0.88, 0.55)) if rng.random() < 0.5 else as_float32((0.12, 0.16, 0.24))
    face = wall + (lit - wall) * (pane * np.float32(0.9))[..., None]
    return _over(colours, face + (as_float32((0.72, 0.79, 0.87)) - face) * np.float32(distance), inside)


def _gradient(frame: Frame, levels: tuple[float, ...], tints: tuple[tuple[float, float, float], ...]) -> Colours:
    """Colours from top to bottom, through the tints at the levels, in ramp units."""
    column = np.stack([np.interp(frame.y[:, 0], levels, channel) for channel in zip(*tints, strict=True)], -1)
    return as_float32(np.broadcast_to(column[:, None], (*frame.shape, 3)))


def _over(colours: npt.NDArray[np.floating], tint: npt.ArrayLike, share: npt.NDArray[np.floating]) -> Colours:
    return as_float32(colours + (as_float32(tint) - colours) * as_float32(share)[..., None])


_PLACES: Final[dict[str, Callable[[np.random.Generator, Frame], Colours]]] = {
    "sunset": _sunset,
    "neon": _neon,
    "forest": _forest,
    "beach": _beach,
    "snow": _snow,
    "night": _night,
    "studio": _studio,
    "city": _city,
}
