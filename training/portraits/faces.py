"""Face crops to train on: drawn faces, small pictures of real ones, and any content at all.

All are RGB [512, 512, 3] in 0..1, aligned like the crops of `pulid-lightning`. What the UNet has to learn is to paint
what the face code says, which needs no faces of its own: a code that holds any picture can be trained with any picture.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.data import lfw_subset

from models.demo.face_code import BOX, box_in_recogniser_crop
from training.data.photos import TRAINED_ON, load_photo
from training.data.shapes import Colours, Field, as_float32, luma
from training.data.textures import is_grey, recolour
from training.portraits.drawn_faces import HELD_OUT_FROM, SIDE, draw_face, smooth_field

SMALL_FACES: Final = tuple(index for index in range(100) if index % 5 != 4)
SMALL_HELD_OUT: Final = tuple(range(4, 100, 5))
"""Indices into scikit-image's small face pictures that are for evaluation only."""
CROPPED: Final = tuple(name for name in TRAINED_ON if name != "astronaut")
"""Photos that random crops are taken of. The astronaut's face is the product's example: nothing is trained on it."""

_SMALL_EYES: Final = ((6.2, 8.1), (14.8, 8.1))
"""Where the eyes of the small pictures are on average, (x, y) in their px."""
_RECOGNISER_SIDE: Final = 112


def sample_face(rng: np.random.Generator) -> Colours:
    """A face crop to train on, never one that is held out: 60 % drawn, 25 % small pictures, 15 % other content."""
    kind = rng.random()
    if kind < 0.6:
        face = draw_face(int(rng.integers(HELD_OUT_FROM)))
    elif kind < 0.85:
        face = small_face(rng, SMALL_FACES[rng.integers(len(SMALL_FACES))])
    else:
        face = photo_crop(rng)
    return _varied(face, rng)


def small_face(rng: np.random.Generator, index: int) -> Colours:
    """One of scikit-image's 100 small grey faces, enlarged, its eyes about in place, its skin of any tone."""
    small = _small_faces()[index]
    eyes = np.array(_SMALL_EYES) + rng.normal(0, 0.25, 2)
    scale = (319 - 193) / (eyes[1, 0] - eyes[0, 0]) * (1 + rng.normal(0, 0.03))
    middle = eyes.mean(0)
    matrix = np.array([(scale, 0, 256 - scale * middle[0]), (0, scale, 240 - scale * middle[1])])
    grey = cv2.warpAffine(small, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    # What is mirrored around the small picture is no more than a hint of hair and background.
    around = cv2.GaussianBlur(grey, (0, 0), 22)
    grey = grey + (around - grey) * _outside()
    grey = np.clip(cv2.GaussianBlur(grey, (0, 0), 0.18 * scale), 0, 1)[..., None]
    pale, dark = np.array((0.92, 0.70, 0.57)), np.array((0.55, 0.34, 0.22))
    skin = as_float32(pale + (dark - pale) * rng.random() + rng.normal(0, 0.015, 3))
    # Skin's hue is strongest in middle tones; black stays black, and highlights stay pale.
    tint = 1 + (skin / luma(skin) - 1) * (0.5 + 2.6 * grey * (1 - grey)) * np.float32(rng.uniform(0.8, 1.3))
    backing = 1 + _outside()[..., None] * as_float32(rng.normal(0, 0.25, 3))
    return as_float32(np.clip(grey * tint * backing, 0, 1))


def photo_crop(rng: np.random.Generator) -> Colours:
    """A random part of a photo that has no face in it, its colours varied, upright or upside down."""
    name = CROPPED[rng.integers(len(CROPPED))]
    photo = Image.fromarray(load_photo(name))
    side = min(photo.size) * rng.uniform(0.3, 1.0)
    left, top = rng.random() * (photo.width - side), rng.random() * (photo.height - side)
    box = (left, top, left + side, top + side)
    part = np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))
    colours = recolour(rng, part, is_grey(name))
    return np.ascontiguousarray(colours[::-1]) if rng.random() < 0.3 else colours


def recogniser_crop(face: NDArray[np.generic]) -> NDArray[np.generic]:
    """The recogniser's 112 px crop [112, 112, 3] of an aligned crop [512, 512, 3], of the same type.

    Beyond the crop its edges go on.
    """
    theirs = box_in_recogniser_crop()
    scale = (BOX[2] - BOX[0]) / (theirs[2] - theirs[0])
    # cv2 counts from the middle of the first px.
    shift = [BOX[axis] - scale * theirs[axis] + scale / 2 - 0.5 for axis in (0, 1)]
    smooth = cv2.GaussianBlur(face, (0, 0), 0.4 * scale)
    matrix = np.array([(scale, 0, shift[0]), (0, scale, shift[1])])
    size = (_RECOGNISER_SIDE, _RECOGNISER_SIDE)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(smooth, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


@cache
def _small_faces() -> NDArray[np.float32]:
    faces = as_float32(lfw_subset()[:100])
    faces.setflags(write=False)
    return faces


@cache
def _outside() -> Field:
    """0 inside a head [512, 512], rising to 1 towards the crop's edges."""
    x = np.linspace(-1, 1, SIDE, dtype=np.float32)
    outside = np.clip(2 * np.hypot(x / 0.78, (x[:, None] - 0.02) / 0.95) - 1.6, 0, 1)
    outside.setflags(write=False)
    return as_float32(outside)


def _varied(face: Colours, rng: np.random.Generator) -> Colours:
    """Mirrored or not, of other contrast, brightness, tint and light from a side."""
    if rng.random() < 0.5:
        face = np.ascontiguousarray(face[:, ::-1])
    contrast, shift = rng.uniform(0.75, 1.2), rng.normal(0, 0.06)
    tint = as_float32(contrast * (1 + rng.normal(0, 0.035, 3)))
    varied = (face - 0.45) * tint + as_float32(0.45 + shift)
    if rng.random() < 0.4:
        varied = varied * (1 + np.float32(rng.uniform(0.08, 0.2)) * smooth_field(rng, 3))[..., None]
    return as_float32(np.clip(varied, 0, 1))
