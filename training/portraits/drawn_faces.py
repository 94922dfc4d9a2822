"""Drawn faces of many persons: each seed is one, aligned as the face crops of `pulid-lightning` are.

Coordinates are px of the 512 px crop; the eyes are at (193, 240) and (319, 240).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.shapes import Colour, Colours, Field, as_float32, rounded

SIDE: Final = 512
HELD_OUT_FROM: Final = 1_000_000
"""Seeds from here on are for evaluation only."""

_MIDDLE: Final = 256.0
_EYES_AT: Final = 240.0
_APART: Final = 63.0
"""Half of the eyes' distance."""
_SKINS: Final = as_float32(
    [
        (0.97, 0.84, 0.76),
        (0.95, 0.78, 0.66),
        (0.88, 0.68, 0.54),
        (0.79, 0.58, 0.42),
        (0.66, 0.45, 0.31),
        (0.50, 0.32, 0.22),
        (0.34, 0.21, 0.15),
    ]
)
_HAIRS: Final = as_float32(
    [
        (0.06, 0.05, 0.05),
        (0.14, 0.09, 0.07),
        (0.27, 0.17, 0.10),
        (0.44, 0.29, 0.16),
        (0.82, 0.66, 0.40),
        (0.92, 0.83, 0.62),
        (0.56, 0.24, 0.10),
        (0.58, 0.57, 0.57),
        (0.88, 0.87, 0.85),
    ]
)
_HAIR_SHARES: Final = (0.20, 0.17, 0.15, 0.12, 0.10, 0.06, 0.07, 0.08, 0.05)
_IRISES: Final = as_float32(
    [(0.22, 0.13, 0.07), (0.38, 0.24, 0.12), (0.28, 0.48, 0.68), (0.30, 0.46, 0.30), (0.4, 0.44, 0.47)]
)
_STYLES: Final = ("bald", "buzz", "short", "side", "fringe", "quiff", "bob", "long", "wavy", "afro", "bun", "receding")
_HIS: Final = (0.10, 0.12, 0.2, 0.17, 0.08, 0.12, 0.02, 0.03, 0.02, 0.05, 0.01, 0.08)
_HERS: Final = (0.01, 0.02, 0.07, 0.07, 0.10, 0.03, 0.20, 0.21, 0.14, 0.07, 0.08, 0.0)

Outline = NDArray[np.float64]
"""Points [n, 2], (x, y) in px."""


@dataclass(frozen=True)
class _Traits:
    """What makes one person; lengths are in px."""

    feminine: bool
    skin: Colour
    hair: Colour
    hair_style: str
    wide: float
    jaw: float
    square: float
    crown: float
    chin: float
    hairline: float
    age: float


class _Canvas:
    """Colours painted over one another; only an outline's surroundings are touched."""

    def __init__(self, colours: Colours) -> None:
        self.colours = colours

    def fill(
        self, tint: NDArray[np.floating], *outlines: Outline, softness: float = 0.8, strength: float = 1.0
    ) -> None:
        """Paint outlines with a colour [3] or colours [512, 512, 3]; edges are `softness` px soft (sigma)."""
        margin = int(3 * softness) + 3
        points = np.concatenate(outlines)
        low = np.clip(np.floor(points.min(0)).astype(int) - margin, 0, SIDE)
        high = np.clip(np.ceil(points.max(0)).astype(int) + margin, 0, SIDE)
        if (high <= low).any():
            return
        layer = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        for outline in outlines:
            cv2.fillPoly(layer, [np.round((outline - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        share = as_float32(layer) * np.float32(strength / 255)
        if softness > 0.3:
            share = cv2.GaussianBlur(share, (0, 0), softness)
        part = (slice(low[1], high[1]), slice(low[0], high[0]))
        tints = tint[part] if tint.ndim == 3 else tint
        self.colours[part] += (as_float32(tints) - self.colours[part]) * share[..., None]

    def shade(self, factor: Sequence[float] | float, outline: Outline, softness: float, strength: float) -> None:
        """Multiply what is there, softly."""
        self.fill(self.colours * as_float32(factor), outline, softness=softness, strength=strength)


def draw_face(seed: int) -> Colours:
    """The face [512, 512, 3] in 0..1 of the person with that seed."""
    rng = np.random.default_rng((seed, 512))
    traits = _traits(rng)
    canvas = _Canvas(_wall(rng))
    _draw_hair_behind(canvas, rng, traits)
    _draw_neck(canvas, rng, traits)
    light = rng.normal(0, 0.45), rng.uniform(-0.6, -0.1)
    _draw_head(canvas, rng, traits, light)
    _draw_features(canvas, rng, traits, light)
    _draw_hair(canvas, rng, traits)
    if rng.random() < 0.24:
        _draw_glasses(canvas, rng)
    return _posed(_lit(canvas.colours, rng, light), rng)


def _traits(rng: np.random.Generator) -> _Traits:
    feminine = bool(rng.random() < 0.5)
    tone = rng.uniform(0, len(_SKINS) - 1)
    skin = np.array([np.interp(tone, range(len(_SKINS)), channel) for channel in _SKINS.T])
    skin = np.clip(skin * (1 + rng.normal(0, 0.025, 3)), 0, 1)
    shares = np.array(_HAIR_SHARES)
    if tone > 3.2:  # mostly dark hair with dark skin
        shares = shares * (6, 4, 1, 0.2, 0.15, 0.1, 0.1, 1, 0.6)
    hair = _HAIRS[rng.choice(len(_HAIRS), p=shares / shares.sum())] * rng.uniform(0.85, 1.15)
    jaw = rng.uniform(0.66, 0.84) if feminine else rng.uniform(0.74, 0.95)
    return _Traits(
        feminine=feminine,
        skin=as_float32(skin),
        hair=as_float32(np.clip(hair, 0, 1)),
        hair_style=str(rng.choice(_STYLES, p=_HERS if feminine else _HIS)),
        wide=rng.uniform(116, 140) - 3 * feminine,
        jaw=jaw,
        square=rng.uniform(1.75, 2.5),
        crown=rng.uniform(58, 88),
        chin=rng.uniform(436, 466) - 4 * feminine,
        hairline=rng.uniform(112, 152),
        age=float(rng.random() ** 1.5),
    )


def _head_outline(traits: _Traits, grown: float = 0.0) -> Outline:
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    across, down = np.cos(angles), np.sin(angles)
    # Below the eyes a superellipse that gets narrower towards the jaw.
    power = np.where(down > 0, 2 / traits.square, 1.0)
    x = np.sign(across) * np.abs(across) ** power
    y = np.sign(down) * np.abs(down) ** power
    narrowing = 1 - (1 - traits.jaw) * np.clip(y, 0, 1) ** 1.4
    tall = np.where(y > 0, traits.chin - 250, 250 - traits.crown)
    return np.stack((_MIDDLE + (traits.wide * narrowing + grown) * x, 250 + (tall + grown) * y), -1)


def _ellipse(x: float, y: float, wide: float, tall: float, turned: float = 0.0) -> Outline:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    along, across = wide * np.cos(angles), tall * np.sin(angles)
    cosine, sine = np.cos(turned), np.sin(turned)
    return np.stack((x + along * cosine - across * sine, y + along * sine + across * cosine), -1)


def _smooth(*points: tuple[float, float]) -> Outline:
    return np.asarray(rounded(np.array(points, float), 3))


def _moved(outline: Outline, x: float = _MIDDLE, y: float = 0.0) -> Outline:
    return np.asarray(outline + np.array((x, y)))


def _wall(rng: np.random.Generator) -> Colours:
    corners = rng.uniform(0.1, 0.95) + rng.normal(0, 0.12, (3, 3, 1)) + rng.normal(0, 0.09, 3)
    if rng.random() < 0.4:
        corners = corners + rng.normal(0, 0.2, 3)
    return as_float32(np.clip(cv2.resize(as_float32(corners), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), 0, 1))


def _hair_texture(rng: np.random.Generator, traits: _Traits) -> Colours:
    """The hair's colour with darker and brighter strands, which fall."""
    curly = traits.hair_style in ("afro", "wavy", "buzz")
    grid = (26, 26) if curly else (5, 60)
    strands = cv2.resize(as_float32(rng.normal(0, 1, grid)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    wide = cv2.resize(as_float32(rng.normal(0, 1, (4, 9))), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    shade = 1 + 0.16 * strands + 0.2 * wide
    return as_float32(np.clip(traits.hair * shade[..., None] + 0.02 * strands[..., None], 0, 1))


def _draw_hair_behind(canvas: _Canvas, rng: np.random.Generator, traits: _Traits) -> None:
    grown = rng.uniform(14, 30)
    wide = traits.wide + grown
    top = traits.crown - rng.uniform(8, 22)
    end = {"bob": rng.uniform(380, 450), "long": 540.0, "wavy": 540.0}.get(traits.hair_style)
    if traits.hair_style == "afro":
        canvas.fill(
            _hair_texture(rng, traits), _ellipse(_MIDDLE, 195, rng.uniform(165, 205), rng.uniform(160, 185)), softness=5
        )
    if traits.hair_style == "bun":
        canvas.fill(_hair_texture(rng, traits), _ellipse(_MIDDLE + rng.normal(0, 20), top - 4, 58, 46), softness=2)
    if end is None:
        return
    flare = rng.uniform(0, 26) + (16 if traits.hair_style == "wavy" else 0)
    outline = _smooth(
        (_MIDDLE - 60, top),
        (_MIDDLE + 60, top),
        (_MIDDLE + wide, top + 70),
        (_MIDDLE + wide + 0.6 * flare, 300),
        (_MIDDLE + wide + flare, end - 30),
        (_MIDDLE + 0.6 * wide, end),
        (_MIDDLE - 0.6 * wide, end),
        (_MIDDLE - wide - flare, end - 30),
        (_MIDDLE - wide - 0.6 * flare, 300),
        (_MIDDLE - wide, top + 70),
    )
    canvas.fill(_hair_texture(rng, traits) * np.float32(0.85), outline, softness=2)


def _draw_neck(canvas: _Canvas, rng: np.random.Generator, traits: _Traits) -> None:
    half = rng.uniform(62, 74) if traits.feminine else rng.uniform(76, 94)
    neck = np.array([(-half, 380), (half, 380), (half + 4, 470), (half + 30, 530), (-half - 30, 530), (-half - 4, 470)])
    canvas.fill(traits.skin * np.float32(0.70), _moved(neck), softness=1.5)
    cloth = as_float32(rng.uniform(0.05, 0.95, 3))
    for side in (-1, 1):
        collar = np.array([(side * (half + 8), 478), (side * 250, 500), (side * 260, 540), (side * 20, 540)], float)
        canvas.fill(cloth, _moved(collar), softness=1)


def _draw_head(canvas: _Canvas, rng: np.random.Generator, traits: _Traits, light: tuple[float, float]) -> None:
    skin = traits.skin
    ear = rng.uniform(13, 22)
    ears = [_ellipse(_MIDDLE + side * (traits.wide + 3), 268, ear, 34, -0.15 * side) for side in (-1, 1)]
    canvas.fill(skin * as_float32((0.88, 0.78, 0.76)), *ears)
    outline = _head_outline(traits)
    # Shaded like an egg: brightest where it faces the light.
    x = (np.arange(SIDE, dtype=np.float32) - np.float32(_MIDDLE)) / np.float32(traits.wide * 1.12)
    y = (np.arange(SIDE, dtype=np.float32)[:, None] - 262) / np.float32(215)
    depth = np.sqrt(np.clip(1 - x * x - y * y, 0.02, 1))
    facing = np.clip((light[0] * x + light[1] * y + depth) / np.hypot(1, np.hypot(*light)), 0, 1)
    shade = 0.52 + 0.56 * facing**0.8
    freckles = cv2.resize(as_float32(rng.normal(0, 1, (40, 40))), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    shade = shade * (1 + 0.02 * freckles)
    warm = as_float32((1.0, 1.0, 1.0)) + (1 - shade)[..., None] * as_float32((0.10, -0.05, -0.08))
    canvas.fill(np.clip(skin * shade[..., None] * warm, 0, 1), outline, softness=1.2)
    blush = rng.uniform(0.1, 0.4) * (1.2 if traits.feminine else 0.8)
    for side in (-1, 1):
        canvas.shade((1.03, 0.80, 0.80), _ellipse(_MIDDLE + side * 76, 318, 34, 26), 14, blush)
        if rng.random() < 0.7 and traits.jaw < 0.85:  # cheekbones
            canvas.shade(0.82, _ellipse(_MIDDLE + side * 92, 352, 16, 46, 0.45 * side), 12, 0.5)
    canvas.shade(0.84, _ellipse(_MIDDLE, 409, 34, 5), 5, 0.6)


def _draw_features(canvas: _Canvas, rng: np.random.Generator, traits: _Traits, light: tuple[float, float]) -> None:
    _draw_eyes(canvas, rng, traits)
    _draw_nose(canvas, rng, traits, light)
    _draw_beard(canvas, rng, traits)
    _draw_mouth(canvas, rng, traits)
    if traits.age > 0.35:
        fold = rng.uniform(0.3, 0.7) * traits.age
        for side in (-1, 1):
            crease = _smooth((side * 36, 318), (side * 58, 348), (side * 68, 378), (side * 61, 376), (side * 50, 350))
            canvas.shade((0.70, 0.62, 0.6), _moved(crease), 3, fold)
            canvas.shade(0.75, _ellipse(_MIDDLE + side * _APART, 266, 26, 5), 4, fold)
        for line in range(3):
            canvas.shade(0.78, _ellipse(_MIDDLE, 165 + 17 * line, 62, 2), 2.5, fold * 0.8)


def _draw_eyes(canvas: _Canvas, rng: np.random.Generator, traits: _Traits) -> None:
    skin = traits.skin
    wide, tall = rng.uniform(23, 31), rng.uniform(8, 14) + 1.5 * traits.feminine
    slant = rng.normal(0, 0.09)
    iris = _IRISES[rng.choice(5, p=(0.36, 0.24, 0.16, 0.13, 0.11) if skin[0] > 0.7 else (0.75, 0.2, 0.01, 0.02, 0.02))]
    lid = as_float32((0.08, 0.05, 0.05)) if traits.feminine else skin * np.float32(0.35)
    lid_line = rng.uniform(3.5, 6.5) if traits.feminine else rng.uniform(2, 4)
    shadow = rng.uniform(0.3, 0.8) if traits.feminine else rng.uniform(0.2, 0.7)
    brow_tall = rng.uniform(4, 8) if traits.feminine else rng.uniform(7, 13)
    brow_at, arch, brow_slant = rng.uniform(-46, -30), rng.uniform(2, 13), rng.normal(0, 5)
    brow = as_float32(np.clip(traits.hair * 0.75, 0, 0.62))
    if traits.hair[2] > 0.5:
        brow = brow * np.float32(rng.uniform(0.5, 1.0))
    gaze = rng.normal(0, 2)
    for side in (-1, 1):
        x, y = _MIDDLE + side * _APART, _EYES_AT
        canvas.shade((0.72, 0.62, 0.60), _ellipse(x - 4 * side, y - 10, wide + 7, tall + 11), 7, shadow)
        almond = _turned(
            _smooth(
                (-wide, 2),
                (-0.55 * wide, -0.8 * tall),
                (0, -1.25 * tall),
                (0.6 * wide, -0.8 * tall),
                (wide, 0),
                (0.5 * wide, 0.85 * tall),
                (-0.4 * wide, 0.9 * tall),
            ),
            slant,
            side,
        )
        canvas.fill(as_float32((0.93, 0.91, 0.89)), _moved(almond, x, y), softness=0.9)
        radius = min(13.5, 1.05 * tall + 1)
        canvas.fill(iris * np.float32(0.55), _ellipse(x + gaze, y - 1, radius + 1, radius + 1), softness=0.8)
        canvas.fill(iris, _ellipse(x + gaze, y - 1, radius - 2, radius - 2), softness=0.8)
        canvas.fill(as_float32((0.02, 0.02, 0.02)), _ellipse(x + gaze, y - 1, 5.5, 5.5), softness=0.8)
        canvas.fill(as_float32((1, 1, 1)), _ellipse(x + gaze + 4, y - 5, 2.6, 2.6), softness=0.6)
        # The lids cover what stands out of the almond.
        upper = _turned(
            _smooth(
                (-wide - 4, 3),
                (-0.55 * wide, -0.95 * tall),
                (0, -1.3 * tall),
                (0.6 * wide, -0.9 * tall),
                (wide + 4, 0),
                (wide, -2 * tall - 6),
                (-wide, -2 * tall - 6),
            ),
            slant,
            side,
        )
        canvas.fill(skin * as_float32((0.82, 0.76, 0.74)), _moved(upper, x, y), softness=1.6, strength=0.95)
        lower = _turned(
            _smooth(
                (-wide, 3),
                (-0.4 * wide, tall),
                (0.5 * wide, 0.95 * tall),
                (wide, 2),
                (0.6 * wide, 2 * tall + 4),
                (-0.6 * wide, 2 * tall + 4),
            ),
            slant,
            side,
        )
        canvas.fill(skin * as_float32((0.93, 0.87, 0.86)), _moved(lower, x, y), softness=1.6, strength=0.95)
        line = _turned(
            _smooth(
                (-wide - 2, 4),
                (-0.55 * wide, -0.9 * tall),
                (0, -1.25 * tall),
                (0.6 * wide, -0.85 * tall),
                (wide + 5, -1),
                (0.6 * wide, -0.85 * tall - lid_line),
                (0, -1.25 * tall - lid_line),
                (-0.55 * wide, -0.9 * tall - 0.7 * lid_line),
            ),
            slant,
            side,
        )
        canvas.fill(lid, _moved(line, x, y), softness=1.0, strength=0.95)
        half = rng.uniform(33, 35)
        inner, outer = brow_at + brow_slant, brow_at - 0.3 * brow_slant + 4
        shape = _smooth(
            (-half, inner),
            (-4, brow_at - 0.6 * arch),
            (14, brow_at - arch),
            (half + 4, outer),
            (half + 6, outer + 2),
            (14, brow_at - arch + brow_tall),
            (-4, brow_at - 0.6 * arch + brow_tall),
            (-half, inner + brow_tall + 1),
        )
        canvas.fill(brow, _moved(shape * (side, 1), x, y), softness=1.8, strength=0.88)


def _turned(outline: Outline, angle: float, side: int) -> Outline:
    """An eye's outline as on the right, x outwards, turned so that its outer end rises, on that side."""
    cosine, sine = np.cos(angle), -np.sin(angle)
    x, y = outline[:, 0] * cosine - outline[:, 1] * sine, outline[:, 0] * sine + outline[:, 1] * cosine
    return np.stack((side * x, y), -1)


def _draw_nose(canvas: _Canvas, rng: np.random.Generator, traits: _Traits, light: tuple[float, float]) -> None:
    wide = rng.uniform(19, 30) + (4 if not traits.feminine else 0) + (5 if traits.skin[0] < 0.6 else 0)
    end = rng.uniform(312, 326)
    bridge = rng.uniform(8, 13)
    dark = -1 if light[0] > 0 else 1
    side_plane = _smooth(
        (dark * bridge, 228),
        (dark * (bridge + 9), 250),
        (dark * (bridge + 6), 280),
        (dark * (wide + 2), end - 6),
        (dark * wide * 0.5, end),
        (dark * bridge * 0.8, 280),
    )
    canvas.shade((0.66, 0.58, 0.56), _moved(side_plane), 5, 0.35 + 0.4 * min(1, abs(light[0])))
    canvas.shade(
        (1.16, 1.14, 1.13),
        _moved(_smooth((-bridge * 0.5, 235), (bridge * 0.5, 235), (bridge * 0.6, end - 18), (-bridge * 0.6, end - 18))),
        5,
        0.7,
    )
    canvas.shade((1.2, 1.16, 1.15), _ellipse(_MIDDLE - dark * 3, end - 14, 9, 8), 5, 0.7)
    canvas.shade(
        (0.66, 0.54, 0.52),
        _moved(
            _smooth(
                (-wide, end - 4),
                (-wide * 0.6, end + 7),
                (0, end + 11),
                (wide * 0.6, end + 7),
                (wide, end - 4),
                (wide * 0.4, end + 1),
                (-wide * 0.4, end + 1),
            )
        ),
        2.5,
        0.9,
    )
    for side in (-1, 1):
        canvas.shade(
            (0.30, 0.2, 0.2), _ellipse(_MIDDLE + side * wide * 0.48, end + 3, wide * 0.22, 3.6, 0.2 * side), 1.4, 0.85
        )
        canvas.shade((0.7, 0.6, 0.58), _ellipse(_MIDDLE + side * (wide + 1), end - 8, 4, 11), 2.5, 0.55)


def _draw_mouth(canvas: _Canvas, rng: np.random.Generator, traits: _Traits) -> None:
    half = rng.uniform(42, 60)
    smile = rng.normal(5, 6) if half < 52 else rng.uniform(4, 14)
    upper, lower = (rng.uniform(low, high) * (1.2 if traits.feminine else 0.85) for low, high in ((6, 11), (9, 16)))
    natural = traits.skin * as_float32((0.84, 0.54, 0.54))
    lips = natural
    if traits.feminine and rng.random() < 0.5:
        painted = as_float32(((0.72, 0.10, 0.16), (0.80, 0.32, 0.40), (0.52, 0.10, 0.22))[rng.integers(3)])
        lips = natural + (painted - natural) * np.float32(rng.uniform(0.5, 0.95))
    y = 371.0
    gap = rng.uniform(9, 19) if rng.random() < 0.38 else 0.0
    corner = y - smile
    top = _smooth(
        (-half, corner),
        (-0.5 * half, y - upper - 1),
        (-8, y - upper - 3),
        (0, y - upper),
        (8, y - upper - 3),
        (0.5 * half, y - upper - 1),
        (half, corner),
        (0.5 * half, y + 1),
        (0, y + 3),
        (-0.5 * half, y + 1),
    )
    bottom = _smooth(
        (-half, corner),
        (-0.5 * half, y + gap),
        (0, y + gap + 2),
        (0.5 * half, y + gap),
        (half, corner),
        (0.6 * half, y + gap + 0.8 * lower),
        (0, y + gap + 1.25 * lower),
        (-0.6 * half, y + gap + 0.8 * lower),
    )
    if gap:
        inner = _smooth(
            (-half + 3, corner),
            (-0.5 * half, y - 1),
            (0, y),
            (0.5 * half, y - 1),
            (half - 3, corner),
            (0.5 * half, y + gap + 2),
            (0, y + gap + 4),
            (-0.5 * half, y + gap + 2),
        )
        canvas.fill(as_float32((0.25, 0.08, 0.08)), _moved(inner))
        teeth = _smooth(
            (-half + 10, corner + 2),
            (0, y),
            (half - 10, corner + 2),
            (0.5 * half, y + 0.75 * gap),
            (0, y + 0.8 * gap),
            (-0.5 * half, y + 0.75 * gap),
        )
        canvas.fill(as_float32((0.95, 0.93, 0.89)), _moved(teeth), softness=1.2)
    canvas.fill(lips * np.float32(0.86), _moved(top), softness=1.4)
    canvas.fill(np.clip(lips * 1.04, 0, 1), _moved(bottom), softness=1.6)
    canvas.shade(1.25, _ellipse(_MIDDLE, y + gap + 0.6 * lower, 0.3 * half, 3), 3, 0.5)
    if not gap:
        line = _smooth(
            (-half - 2, corner - 1),
            (-0.5 * half, y),
            (0, y + 2),
            (0.5 * half, y),
            (half + 2, corner - 1),
            (0.5 * half, y + 3.5),
            (0, y + 5),
            (-0.5 * half, y + 3.5),
        )
        canvas.fill(lips * np.float32(0.35), _moved(line), softness=1.0, strength=0.9)
    for side in (-1, 1):
        canvas.shade(0.6, _ellipse(_MIDDLE + side * (half + 3), corner, 4, 5), 2.5, 0.5)


def _draw_beard(canvas: _Canvas, rng: np.random.Generator, traits: _Traits) -> None:
    if traits.feminine or rng.random() < 0.42:
        return
    kind = rng.choice(("stubble", "moustache", "goatee", "full"), p=(0.32, 0.2, 0.18, 0.3))
    hair = _hair_texture(rng, traits) * np.float32(0.9)
    moustache = _smooth((-54, 372), (-36, 346), (0, 337), (36, 346), (54, 372), (40, 366), (0, 358), (-40, 366))
    low = traits.chin + 6
    if kind in ("stubble", "full"):
        jaw = _head_outline(traits, 5 if kind == "full" else 0)
        below = jaw[jaw[:, 1] > 290]
        below = below[np.argsort(np.arctan2(below[:, 0] - _MIDDLE, below[:, 1] - 250))]
        level = rng.uniform(346, 372)
        cheeks = np.array([(102, 322), (76, level), (56, 360), (0, 350), (-56, 360), (-76, level), (-102, 322)], float)
        outline = np.concatenate((below, _moved(cheeks)))
        strength = rng.uniform(0.18, 0.38) if kind == "stubble" else 0.92
        canvas.fill(hair, outline, softness=6 if kind == "stubble" else 4, strength=strength)
        if kind == "stubble":
            return
    if kind == "goatee":
        chin = _smooth(
            (-44, 392), (-20, 402), (20, 402), (44, 392), (42, low - 20), (24, low + 6), (-24, low + 6), (-42, low - 20)
        )
        canvas.fill(hair, _moved(chin), softness=3, strength=0.92)
    if kind != "goatee" or rng.random() < 0.7:
        canvas.fill(hair, _moved(moustache), softness=2.5, strength=0.95)


def _draw_hair(canvas: _Canvas, rng: np.random.Generator, traits: _Traits) -> None:
    style = traits.hair_style
    if style == "bald":
        canvas.shade(1.15, _ellipse(_MIDDLE + rng.normal(0, 30), traits.crown + 50, 46, 22), 14, 0.6)
        return
    hair = _hair_texture(rng, traits)
    line, part = traits.hairline, rng.choice((-1, 1)) * rng.uniform(20, 60)
    grown = {"buzz": 4.0, "receding": 6.0}.get(style, rng.uniform(10, 26))
    crown = _head_outline(traits, grown)
    side_end = {"bob": 330, "long": 360, "wavy": 360, "afro": 262, "bun": 238, "buzz": 232}.get(
        style, rng.uniform(236, 275)
    )
    upper = crown[crown[:, 1] < min(side_end, 262)]
    upper = upper[np.argsort(np.arctan2(upper[:, 0] - _MIDDLE, 262 - upper[:, 1]))]  # from the left over the crown
    wide = traits.wide
    inner = wide - rng.uniform(0, 12)
    match style:
        case "side" | "bob" | "long" | "wavy":
            fringe = [
                (inner, side_end),
                (inner - 6, line + 74),
                (wide * 0.68, line + 30),
                (part + 20, line - 16),
                (part, line - 30),
                (part - 20, line - 12),
                (-wide * 0.68, line + 36),
                (-inner + 6, line + 80),
                (-inner, side_end),
            ]
        case "fringe":
            low = rng.uniform(178, 202)
            fringe = [
                (inner, side_end),
                (inner - 4, low + 30),
                (wide * 0.72, low),
                (0, low - 6),
                (-wide * 0.72, low),
                (-inner + 4, low + 30),
                (-inner, side_end),
            ]
        case "receding":
            fringe = [
                (inner + 4, side_end),
                (inner - 2, line + 60),
                (wide * 0.74, line - 10),
                (wide * 0.5, line - 42),
                (0, line - 34),
                (-wide * 0.5, line - 42),
                (-wide * 0.74, line - 10),
                (-inner + 2, line + 60),
                (-inner - 4, side_end),
            ]
        case _:
            fringe = [
                (inner + 3, side_end),
                (inner - 3, line + 62),
                (wide * 0.78, line + 22),
                (wide * 0.5, line),
                (0, line - 6),
                (-wide * 0.5, line),
                (-wide * 0.78, line + 22),
                (-inner + 3, line + 62),
                (-inner - 3, side_end),
            ]
    ends = [(upper[-1, 0] - _MIDDLE, side_end), *fringe, (upper[0, 0] - _MIDDLE, side_end)]
    outline = np.concatenate((upper, _moved(np.array(ends, float))))
    canvas.shade(0.72, _moved(outline, 0, 9), 7, 0.5)
    canvas.fill(
        hair,
        outline,
        softness=5 if style in ("buzz", "afro", "receding") else 1.8,
        strength=0.7 if style == "buzz" else 1.0,
    )
    if style == "quiff":
        tuft = _ellipse(_MIDDLE + rng.normal(0, 16), traits.crown + 6, wide * 0.72, 38, rng.normal(0, 0.15))
        canvas.fill(hair * np.float32(1.1), tuft, softness=3)
    if style not in ("buzz", "receding"):
        canvas.shade(
            1.28, _ellipse(_MIDDLE + rng.normal(0, 40), traits.crown + 26, 60, 13, rng.normal(0, 0.2)), 11, 0.6
        )


def _draw_glasses(canvas: _Canvas, rng: np.random.Generator) -> None:
    frame = as_float32(((0.04, 0.04, 0.05), (0.25, 0.14, 0.08), (0.55, 0.45, 0.25), (0.5, 0.08, 0.1))[rng.integers(4)])
    wide, tall, thick = rng.uniform(40, 50), rng.uniform(28, 40), rng.uniform(3.5, 8)
    power = rng.choice((0.45, 0.7, 1.0))
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    unit = np.stack([np.sign(wave) * np.abs(wave) ** power for wave in (np.cos(angles), np.sin(angles))], -1)
    sun = rng.random() < 0.14
    for side in (-1, 1):
        at = (_MIDDLE + side * (_APART + 1), _EYES_AT + 6)
        lens = unit * (wide, tall) + at
        if sun:
            canvas.fill(as_float32((0.06, 0.05, 0.05)), lens, strength=0.93)
        else:
            canvas.shade(1.2, lens, 2, 0.35)
        ring = (
            np.concatenate(
                (unit * (wide + thick, tall + thick), [(wide + thick, 0.0)], [(wide, 0.0)], unit[::-1] * (wide, tall))
            )
            + at
        )
        canvas.fill(frame, ring, softness=0.8)
        temple = np.array([(wide + thick - 2, -8), (140 - _APART, -12), (140 - _APART, -5), (wide + thick - 2, 2)])
        canvas.fill(frame, temple * (side, 1) + at, softness=0.8)
    bridge = np.array([(-20, 0), (0, -6), (20, 0), (20, thick), (0, thick - 5), (-20, thick)])
    canvas.fill(frame, _moved(bridge, y=_EYES_AT), softness=0.8)


def _lit(colours: Colours, rng: np.random.Generator, light: tuple[float, float]) -> Colours:
    x = np.linspace(-1, 1, SIDE, dtype=np.float32)
    fall = 1 + np.float32(0.22 * light[0]) * x + np.float32(0.10 * light[1]) * x[:, None]
    return as_float32(np.clip(colours * (fall * np.float32(rng.uniform(0.92, 1.08)))[..., None], 0, 1))


def _posed(colours: Colours, rng: np.random.Generator) -> Colours:
    """Turned aside a little, with the eyes kept in place, and off by as little as real alignments are."""
    matrix = cv2.getRotationMatrix2D((_MIDDLE, 290), rng.normal(0, 1.6), 1 + rng.normal(0, 0.022))
    matrix[:, 2] += rng.normal(0, 2.5, 2)
    x, y = np.arange(SIDE, dtype=np.float32), np.arange(SIDE, dtype=np.float32)[:, None]
    # What is nearer to the camera moves farther.
    depth = np.sqrt(np.clip(1 - ((x - _MIDDLE) / 150) ** 2 - ((y - 265) / 225) ** 2, 0, 1))
    depth = cv2.GaussianBlur(as_float32(depth), (0, 0), 12)
    nearer = depth - depth[int(_EYES_AT), int(_MIDDLE + _APART)]
    aside, nod = np.clip(rng.normal(0, 14, 2), -26, 26) * (1, 0.5)
    from_x, from_y = (
        as_float32(row[0] * x + row[1] * y + row[2] - turn * nearer)
        for row, turn in zip(matrix, (aside, nod), strict=True)
    )
    return as_float32(cv2.remap(colours, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def smooth_field(rng: np.random.Generator, cells: int) -> Field:
    """Random hills [512, 512] of deviation about 1, about `cells` along a side."""
    return as_float32(
        cv2.resize(as_float32(rng.normal(0, 1, (cells, cells))), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    )
