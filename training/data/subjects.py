"""Subjects to relight, each a picture and its alpha: cut out of training photos, or rendered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.data.cutouts import Cutout, cutouts
from training.data.photos import Picture
from training.data.shapes import (
    Colours,
    Field,
    as_float32,
    blur,
    colour_noise,
    random_outlines,
    rasterise,
    smooth_noise,
)
from training.data.synthetic_subjects import Rendering, render_object, render_portrait
from training.data.textures import is_grey, photo_patch, procedural_texture, recolour

_SMALLEST, _LARGEST = 0.12, 0.85
"""Shares of a picture that a subject may cover."""
_WHOLE: Final = 0.08
_IMPERFECT: Final = 0.15
"""Share of the alphas degraded to those of a weak matting network."""
_CUTOUT_SHARES: Final = {
    "astronaut": 0.34,
    "motorcycle_left": 0.14,
    "camera": 0.12,
    "logo": 0.08,
    "horse": 0.08,
    "cell": 0.04,
    "coins": 0.12,
    "color": 0.08,
}


@dataclass(frozen=True)
class Subject:
    """A picture [height, width, 3] of 8 bits and the subject's alpha [height, width] in 0..1."""

    picture: Picture
    alpha: npt.NDArray[np.float32]


def sample_subject(rng: np.random.Generator, width: int, height: int) -> Subject:
    """Sample a subject of that size in px: 45 % cut-outs of photos, 35 % patches and rendered objects, 12 % portraits.

    The rest are whole photos, like pictures in which matting finds no background.
    """
    if rng.random() < _WHOLE:
        return _subject(photo_patch(rng, width, height), np.ones((height, width), np.float32))
    kinds = tuple(_KINDS)
    while True:
        draw = kinds[rng.choice(len(kinds), p=list(_KINDS.values()))]
        colours, alpha = draw(rng, width, height)
        if _SMALLEST <= float(alpha.mean()) <= _LARGEST:
            return _subject(colours, _degrade_alpha(rng, alpha))


def _subject(colours: Colours, alpha: Field) -> Subject:
    return Subject(np.rint(colours * 255).astype(np.uint8), as_float32(np.clip(alpha, 0, 1)))


def _degrade_alpha(rng: np.random.Generator, alpha: Field) -> Field:
    """Blur some alphas, add holes to some, let some leak out of the subject; most stay unchanged."""
    kind = rng.random() / _IMPERFECT
    if kind > 1:
        return alpha
    if kind < 0.5:
        return blur(alpha, rng.uniform(2, 5))
    height, width = alpha.shape
    spots = np.clip(5 * (smooth_noise(rng, width, height, int(rng.integers(3, 7))) - 0.45), 0, 1)
    return as_float32(np.clip(alpha - spots if kind < 0.75 else alpha + 0.7 * spots, 0, 1))


def _sample_cutout(rng: np.random.Generator, width: int, height: int) -> Rendering:
    name = tuple(_CUTOUT_SHARES)[rng.choice(len(_CUTOUT_SHARES), p=list(_CUTOUT_SHARES.values()))]
    choice = cutouts()[name]
    picture, alpha = _place(rng, choice[rng.integers(len(choice))], width, height)
    # A silhouette has nothing inside.
    empty = name == "horse"
    colours = procedural_texture(rng, width, height) if empty else recolour(rng, np.asarray(picture), is_grey(name))
    return colours, as_float32(np.asarray(alpha)) / np.float32(255)


def _place(rng: np.random.Generator, cutout: Cutout, width: int, height: int) -> tuple[Image.Image, Image.Image]:
    """Scale a cut-out's photo and alpha and shift them on canvases; half of them are mirrored."""
    source = cutout.rgba
    fitting = min(width / source.width, height / source.height)
    scale = 0.85 * fitting * np.exp(rng.uniform(np.log(0.7), np.log(1.6)))
    size = (max(8, round(scale * source.width)), max(8, round(scale * source.height)))
    free_across, free_down = width - size[0], height - size[1]
    left = round(rng.uniform(-0.1, 0) * width) if cutout.leans else round(free_across * rng.uniform(0.1, 0.9))
    top = free_down + round(rng.uniform(0, 0.15) * height) if cutout.stands else round(free_down * rng.uniform(0.2, 1))
    canvases = _sample_canvas(rng, width, height), Image.new("L", (width, height))
    # Scaling RGBA at once would lose colours outside the subject, which show where the alpha is wrong.
    for canvas, part in zip(canvases, (source.convert("RGB"), source.getchannel("A")), strict=True):
        canvas.paste(part.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0), (left, top))
    if rng.random() < 0.5:
        return canvases
    mirrored, mask = (canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for canvas in canvases)
    return mirrored, mask


def _sample_canvas(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Random colours for what lies beyond a photo's edge."""
    return Image.fromarray((colour_noise(rng, width, height, 2) * 255).astype(np.uint8))


def _sample_patch(rng: np.random.Generator, width: int, height: int) -> Rendering:
    fill = photo_patch if rng.random() < 0.55 else procedural_texture
    return fill(rng, width, height), rasterise(random_outlines(rng), width, height, rng.uniform(0.5, 1.2))


_KINDS: Final[dict[Callable[[np.random.Generator, int, int], Rendering], float]] = {
    _sample_cutout: 0.49,
    _sample_patch: 0.27,
    render_object: 0.11,
    render_portrait: 0.13,
}
"""Odds of the kinds of subjects, whole photos aside."""
