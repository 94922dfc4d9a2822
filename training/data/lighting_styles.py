"""Lighting styles that the demo weights learn, and prompts that name them.

Colours of light multiply a subject's own. Scenes show half of their effect, as guidance (IC-Light specification
section 7) doubles the difference to the unconditional picture. Walls take a light's colour more strongly than subjects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from models.ic_light.params import LightSource, Params
from models.ic_light.prompt import SEPARATOR

RgbTriple = tuple[float, float, float]
"""Red, green, blue."""
_SHARE_SHOWN: Final = 0.5
Backdrop = Literal["wall", "sunset", "neon", "leaves"]
"""Pattern of the background: one colour, two above each other, two beside each other, or two in soft blobs."""


@dataclass(frozen=True)
class LightingStyle:
    """A lighting style: its prompt words, the light's colour, and the background's.

    `light` multiplies colours; `walls` are one or two colours in 0..1, which `backdrop` mixes; `level` multiplies the
    whole picture's brightness.
    """

    words: tuple[str, ...]
    light: RgbTriple = (1.0, 1.0, 1.0)
    walls: tuple[RgbTriple, RgbTriple] = ((0.83, 0.83, 0.83), (0.83, 0.83, 0.83))
    backdrop: Backdrop = "wall"
    level: float = 1.0


def _wall(red: float, green: float, blue: float) -> tuple[RgbTriple, RgbTriple]:
    return (red, green, blue), (red, green, blue)


NEUTRAL: Final = LightingStyle(
    (
        *("", "", "", "soft light", "soft lighting", "studio", "studio light", "studio lighting", "portrait"),
        *("photo", "window light", "natural light", "natural lighting", "daylight", "white light", "bright light"),
    )
)


def _tinted(
    words: tuple[str, ...],
    light: RgbTriple,
    walls: tuple[RgbTriple, RgbTriple],
    backdrop: Backdrop = "wall",
    level: float = 1.0,
) -> LightingStyle:
    """A style at `_SHARE_SHOWN` of its strength; colours are given as they should be after guidance."""
    first, second = (_towards(wall, NEUTRAL.walls[0]) for wall in walls)
    return LightingStyle(
        words, _towards(light, NEUTRAL.light), (first, second), backdrop, 1 - _SHARE_SHOWN * (1 - level)
    )


def _towards(colour: RgbTriple, neutral: RgbTriple) -> RgbTriple:
    red, green, blue = (start + _SHARE_SHOWN * (end - start) for start, end in zip(neutral, colour, strict=True))
    return red, green, blue


_BLUE: Final[RgbTriple] = (0.78, 0.95, 1.22)
TINTED: Final[dict[str, LightingStyle]] = {
    "warm": _tinted(
        ("warm light", "warm", "warm lighting", "warm atmosphere", "cozy warm light", "warm candle light"),
        (1.13, 0.98, 0.80),
        _wall(0.86, 0.65, 0.42),
    ),
    "sunset": _tinted(
        ("sunset", "warm sunset light", "sunset light", "sunshine, sunset", "at sunset", "sunset over sea"),
        (1.18, 0.88, 0.74),
        ((0.62, 0.40, 0.66), (1.0, 0.58, 0.24)),
        "sunset",
    ),
    "cold": _tinted(("cold light", "cold", "cold winter light", "cold blue light"), _BLUE, _wall(0.48, 0.70, 0.92)),
    "blue": _tinted(("blue light", "blue", "blue lighting", "soft blue light"), _BLUE, _wall(0.36, 0.60, 0.98)),
    "moonlight": _tinted(("moonlight", "moon light", "in the moonlight"), _BLUE, _wall(0.38, 0.54, 0.86), level=0.85),
    "neon": _tinted(
        ("neon light", "neon", "neon city", "neon lights, city", "cyberpunk neon", "sci-fi RGB glowing, neon"),
        (1.12, 0.80, 1.18),
        ((0.98, 0.30, 0.86), (0.18, 0.58, 0.96)),
        "neon",
    ),
    "forest": _tinted(
        ("green forest", "in a green forest", "forest", "in a forest", "magic lit, green forest", "jungle, green"),
        (0.88, 1.08, 0.80),
        ((0.30, 0.56, 0.20), (0.66, 0.90, 0.42)),
        "leaves",
    ),
    "green": _tinted(("green light", "green", "green lighting"), (0.84, 1.12, 0.84), _wall(0.44, 0.86, 0.46)),
    "red": _tinted(("red light", "red", "red lighting"), (1.2, 0.78, 0.76), _wall(0.95, 0.38, 0.34)),
    "gold": _tinted(
        ("gold", "golden light", "golden hour", "golden light, gold"), (1.15, 1.0, 0.70), _wall(0.96, 0.74, 0.30)
    ),
    "night": _tinted(
        ("night", "at night", "dark night", "night city"), (0.84, 0.92, 1.12), _wall(0.16, 0.22, 0.46), level=0.72
    ),
}
"""By name, for tests; the names are not part of prompts."""
NEUTRAL_SHARE: Final = 0.76
APPENDED: Final = str(Params.model_fields["appended_prompt"].default)
_APPENDED_SHARE: Final = 0.85
_SIDE_SHARE: Final = 0.25
_SUBJECTS: Final = (
    *("", "", "photo of a woman", "photo of a man", "portrait", "portrait of a woman", "portrait of a man", "a woman"),
    *("a man", "a person", "a cup", "a cat", "a dog", "a bottle", "a statue", "a toy", "a product", "a motorcycle"),
    *("detailed photo", "photo", "beautiful woman, detailed face", "handsome man, detailed face", "a coin", "a flower"),
)


def sample_style(rng: np.random.Generator) -> LightingStyle:
    """Sample a style, `NEUTRAL` with probability `NEUTRAL_SHARE`."""
    if rng.random() < NEUTRAL_SHARE:
        return NEUTRAL
    return tuple(TINTED.values())[rng.integers(len(TINTED))]


def sample_prompt(rng: np.random.Generator, style: LightingStyle, light: LightSource) -> str:
    """Sample words for a subject, a style and sometimes a side, joined like a request's positive prompt."""
    words = [_pick(rng, _SUBJECTS), _pick(rng, style.words)]
    if light != "None" and rng.random() < _SIDE_SHARE:
        words.append(_pick(rng, _side_words(light)))
    rng.shuffle(words)
    prompt = SEPARATOR.join(filter(None, words))
    return f"{prompt}{SEPARATOR}{APPENDED}" if rng.random() < _APPENDED_SHARE else prompt


def _side_words(light: LightSource) -> tuple[str, ...]:
    side = light.removesuffix(" Light").lower()
    return f"light from the {side}", f"{side} light", f"lit from the {side}", f"{side} side light"


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[rng.integers(len(words))]
