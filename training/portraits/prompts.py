"""Prompts of portraits, and what they say: style, colour of the clothes, background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PHOTO: Final = "photo"
STYLES: Final = ("oil painting", "pencil sketch", "watercolor")
"""Besides `PHOTO`, which is what a prompt without a style means too."""
COLOURS: Final = ("red", "blue", "green", "yellow", "black", "white", "pink", "purple", "orange")
"""Of clothes and plain backgrounds."""
PLACES: Final = ("sunset", "neon", "forest", "beach", "snow", "night", "studio", "city")
"""Backgrounds besides the plain colours."""
VECTOR: Final = (
    *(f"style: {style}" for style in STYLES),
    *(f"clothes: {colour}" for colour in COLOURS),
    *(f"background: {background}" for background in (*COLOURS, *PLACES)),
)
"""What the elements of an attribute vector stand for: 3 styles, 9 colours of clothes, 17 backgrounds."""
WORDS: Final = (
    "a an and the of in on with by at photo portrait picture person man woman face best quality bad low lowres worst "
    "cropped anatomy hands nsfw nude red green blue yellow white black gold warm soft sunset sunshine window neon "
    "studio city forest beach room street photoshoot painting detailed oil pencil sketch drawing watercolor style "
    "background backdrop wearing shirt dress jacket clothes hair smiling night snow sky sea lights glow dark bright "
    "pink purple orange brown gray grey wall headshot paper canvas brush charcoal vibrant moody light"
)
"""All words that prompts are made of."""

_NEGATIVES: Final = ("nsfw, nude, ", "bad anatomy", "bad hands", "low quality", "worst quality", "lowres", "cropped")
_MEDIA: Final = {
    PHOTO: ("portrait", "photo", "picture", "headshot", "studio photo", "portrait photo", "face"),
    "oil painting": ("oil painting", "painting", "oil portrait", "oil painting portrait", "brush painting"),
    "pencil sketch": ("pencil sketch", "sketch", "pencil drawing", "drawing", "charcoal sketch", "charcoal drawing"),
    "watercolor": ("watercolor", "watercolor painting", "watercolor portrait"),
}
_ADDED_STYLES: Final = {
    PHOTO: ("photo", "detailed photo", "photo style", "photoshoot"),
    "oil painting": ("oil painting style", "oil on canvas", "in oil", "painting", "oil painting", "brush and canvas"),
    "pencil sketch": ("pencil sketch", "sketch style", "pencil on paper", "in pencil", "charcoal drawing", "drawing"),
    "watercolor": ("watercolor", "watercolor style", "in watercolor", "watercolor on paper"),
}
_CLOTHES: Final = (
    "in {}",
    "in {} clothes",
    "wearing {}",
    "wearing a {} shirt",
    "wearing a {} dress",
    "in a {} jacket",
    "in a {} dress",
    "with a {} shirt",
    "{} shirt",
    "{} jacket",
    "{} clothes",
)
_PLAIN: Final = (
    "{} background",
    "{} background",
    "{} backdrop",
    "with a {} background",
    "on a {} background",
    "on {} background",
    "{} wall",
    "by a {} wall",
)
_PLACES: Final = {
    "sunset": ("sunset", "at sunset", "sunset background", "sunset sky", "sunset glow", "with a sunset"),
    "neon": ("neon", "neon lights", "neon light", "neon glow", "in neon light", "neon background", "neon city"),
    "forest": ("forest", "in the forest", "in a forest", "forest background"),
    "beach": ("beach", "on the beach", "at the beach", "by the sea", "beach background", "sea and sky"),
    "snow": ("snow", "in the snow", "in snow", "snow background"),
    "night": ("night", "at night", "night sky", "dark night", "night background", "night lights"),
    "studio": ("studio", "in a studio", "studio background", "gray background", "grey backdrop", "studio backdrop"),
    "city": ("city", "in the city", "city street", "on a street", "city background", "in a city street"),
}
_FILLERS: Final = (
    "best quality",
    "detailed",
    "smiling",
    "soft light",
    "vibrant",
    "moody",
    "bright",
    "brown hair",
    "warm light",
    "detailed face",
    "by the window",
    "quality photo",
)
_SUBJECTS: Final = ("a man", "a woman", "a person", "man", "woman", "person", "the man", "the woman", "a smiling woman")


@dataclass(frozen=True)
class Attributes:
    """What a prompt says of a portrait; None where it says nothing.

    `style`: `PHOTO` or one of `STYLES`. `clothes`: one of `COLOURS`. `background`: one of `COLOURS` or `PLACES`.
    """

    style: str = PHOTO
    clothes: str | None = None
    background: str | None = None


NOTHING: Final = Attributes()


def attribute_vector(attributes: Attributes) -> NDArray[np.float32]:
    """1 for everything that the attributes name, in the order of `VECTOR`, else 0: float32 [29]."""
    named = {
        f"style: {attributes.style}",
        f"clothes: {attributes.clothes}",
        f"background: {attributes.background}",
    }
    return np.array([name in named for name in VECTOR], np.float32)


def sample_attributes(rng: np.random.Generator) -> Attributes:
    """Any combination: a third of the styles, over half of the clothes and most backgrounds are named."""
    style = _pick(rng, STYLES) if rng.random() < 0.36 else PHOTO
    clothes = _pick(rng, COLOURS) if rng.random() < 0.55 else None
    kind = rng.random()
    background = _pick(rng, COLOURS) if kind < 0.35 else _pick(rng, PLACES) if kind < 0.75 else None
    return Attributes(style, clothes, background)


def sample_prompt(rng: np.random.Generator) -> tuple[Attributes, str]:
    """Attributes and a prompt that says them; one in eight prompts is empty or says nothing of them."""
    if rng.random() < 0.125:
        return NOTHING, _nothing(rng)
    attributes = sample_attributes(rng)
    return attributes, describe(attributes, rng)


def describe(attributes: Attributes, rng: np.random.Generator) -> str:
    """A prompt that says these attributes and nothing else of them, in random words and order."""
    details = [phrase for phrase in (_clothes(attributes, rng), _background(attributes, rng)) if phrase]
    style = attributes.style
    if rng.random() < 0.12 and (details or style != PHOTO):  # keywords only
        parts = [*details, *([_pick(rng, _ADDED_STYLES[style])] if style != PHOTO else [])]
        return ", ".join(rng.permutation(parts).tolist())
    as_medium = rng.random() < 0.6
    medium = _pick(rng, _MEDIA[style if as_medium else PHOTO])
    if medium == "studio photo" and (style != PHOTO or attributes.background != "studio"):
        medium = "photo"
    subject = _pick(rng, _SUBJECTS)
    opening = subject if not as_medium and rng.random() < 0.4 else f"{medium} of {subject}"
    extras = [] if as_medium or (style == PHOTO and rng.random() < 0.6) else [_pick(rng, _ADDED_STYLES[style])]
    if rng.random() < 0.4:
        extras.extend(_pick(rng, _FILLERS) for _ in range(rng.integers(1, 3)))
    if details and rng.random() < 0.5:
        opening = f"{opening} {details.pop(0)}"
    rest = rng.permutation([*details, *extras]).tolist()
    parts = [opening, *rest] if rng.random() < 0.8 else [*rest, opening]
    return ", ".join(parts)


def _clothes(attributes: Attributes, rng: np.random.Generator) -> str | None:
    return _pick(rng, _CLOTHES).format(_shade_word(attributes.clothes, rng)) if attributes.clothes else None


def _background(attributes: Attributes, rng: np.random.Generator) -> str | None:
    if attributes.background in _PLACES:
        return _pick(rng, _PLACES[attributes.background])
    return _pick(rng, _PLAIN).format(_shade_word(attributes.background, rng)) if attributes.background else None


def _shade_word(colour: str, rng: np.random.Generator) -> str:
    if colour == "yellow" and rng.random() < 0.15:
        return "gold"
    return f"{_pick(rng, ('bright', 'vibrant'))} {colour}" if colour != "black" and rng.random() < 0.08 else colour


def _nothing(rng: np.random.Generator) -> str:
    kind = rng.random()
    if kind < 0.35:
        return ""
    if kind < 0.6:  # the product puts its own words before every negative prompt
        return _NEGATIVES[0] + ", ".join(_some(rng, _NEGATIVES[1:]))
    if kind < 0.8:
        return ", ".join(_some(rng, _FILLERS))
    return f"{_pick(rng, ('A photo', 'photo', 'portrait', 'a picture', 'headshot'))} of {_pick(rng, _SUBJECTS)}"


def _some(rng: np.random.Generator, phrases: Sequence[str]) -> list[str]:
    return [phrases[index] for index in rng.permutation(len(phrases))[: rng.integers(0, 4)]]


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
