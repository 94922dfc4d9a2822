"""Portraits of a face and of what a prompt says, composed: what the demo UNet learns to paint.

Forms are placed in ramp units: x and y are 0 in the picture's middle, and 1 is half of the side of a square of the same
mean square side, so that a square picture spans -1..1. The face always fills the same box.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.demo import face_code
from models.pulid_lightning.identity.face import CROP_SIDE
from training.data.shapes import Colour, Colours, Field, as_float32, luma
from training.portraits.backdrops import CYAN, MAGENTA, PALETTE, Frame, backdrop, flakes, mottled, smoothstep
from training.portraits.painter import BOX
from training.portraits.prompts import PHOTO, Attributes

_CHEEKS: Final = ((190, 322), (322, 322))
"""(x, y) in px of the aligned crop."""
_CHEEK_HALF: Final = 22


def mask(height: int, width: int) -> Field:
    """The face's share of the picture [height, width]: 1 in the face, 0 outside of `BOX` and at its edges."""
    return _mask(Frame(height, width))


def face_crop(portrait: NDArray[np.float32]) -> Colours:
    """The aligned crop [512, 512, 3] of the face that a portrait [height, width, 3] shows; edges are repeated."""
    frame = Frame(*portrait.shape[:2])
    size = (CROP_SIDE, CROP_SIDE)
    scale = _placement(frame)[0, 0]
    if scale < 0.77:
        portrait = cv2.GaussianBlur(portrait, (0, 0), 0.45 / scale)
    return as_float32(
        cv2.warpAffine(portrait, _placement(frame), size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def compose(
    face: NDArray[np.float32],
    attributes: Attributes,
    size: int | tuple[int, int],
    rng: np.random.Generator,
    amount: float = 1.0,
) -> Colours:
    """The portrait [height, width, 3] in 0..1 of a face, an aligned RGB crop [512, 512, 3] in 0..1.

    `size` is a square's side or (height, width), in px. Below an `amount` of 1 the face is drawn more freely: blurred,
    of less contrast, in another light; the most from 0.5 downwards.
    """
    height, width = (size, size) if isinstance(size, int) else size
    frame = Frame(height, width)
    freedom = float(np.clip(2 * (1 - amount), 0, 1))
    picture = backdrop(rng, attributes.background, height, width)
    face = _freely(face, rng, freedom)
    picture = _dress(picture, rng, frame, attributes, _cheek_colour(face))
    inside = _mask(frame)
    if attributes.background == "snow":
        picture += (1 - picture) * (flakes(rng, frame) * smoothstep(inside, 0.3, 0.0))[..., None]
    picture += (_placed(face, frame) - picture) * inside[..., None]
    if attributes.background == "neon":
        picture = _rim_light(picture, frame)
    if attributes.style != PHOTO:
        picture = _STYLES[attributes.style](picture, rng, frame, inside)
    return np.clip(picture, 0, 1)


def _mask(frame: Frame) -> Field:
    _, top, right, bottom = BOX
    # Narrower towards the chin.
    x = frame.x * (1 + 0.16 * smoothstep(frame.y, -0.1, 0.6)) / right
    y = (frame.y - (top + bottom) / 2) / ((bottom - top) / 2)
    radius = (np.abs(x) ** 2.4 + np.abs(y) ** 2.4) ** (1 / 2.4)
    return smoothstep(as_float32(radius), 0.97, 0.74)


def _placed(face: NDArray[np.float32], frame: Frame) -> Colours:
    """The crop warped so that its box fills `BOX`; its edges go on outside."""
    matrix = _placement(frame)
    if matrix[0, 0] > 1.3:
        face = cv2.GaussianBlur(face, (0, 0), 0.45 * matrix[0, 0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return as_float32(
        cv2.warpAffine(face, matrix, (frame.width, frame.height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    )


def _placement(frame: Frame) -> NDArray[np.float64]:
    """The transform [2, 3] of a portrait's px to the crop's."""
    left, top, right, _ = face_code.BOX
    scale = (right - left) / (BOX[2] - BOX[0]) / frame.unit
    # cv2 counts from the middle of the first px.
    shift = [
        start - edge * scale * frame.unit - scale * side / 2 + scale / 2 - 0.5
        for start, edge, side in ((left, BOX[0], frame.width), (top, BOX[1], frame.height))
    ]
    return np.array([(scale, 0, shift[0]), (0, scale, shift[1])])


def _freely(face: NDArray[np.float32], rng: np.random.Generator, freedom: float) -> Colours:
    """At 1, of about half the resolution of the face's code, of contrast 0.75, and in a random soft light."""
    if freedom == 0:
        return face
    soft = cv2.GaussianBlur(face, (0, 0), max(0.3, 6.5 * freedom))
    soft = 0.5 + (soft - 0.5) * (1 - 0.25 * freedom)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.4)
    along = np.linspace(-1, 1, face.shape[0])
    light = 1 + strength * freedom * (np.cos(angle) * along + np.sin(angle) * along[:, None])
    tint = 1 + freedom * rng.uniform(-0.08, 0.08, 3)
    return as_float32(np.clip(soft * as_float32(light)[..., None] * as_float32(tint), 0, 1))


def _cheek_colour(face: NDArray[np.float32]) -> Colour:
    patches = [face[y - _CHEEK_HALF : y + _CHEEK_HALF, x - _CHEEK_HALF : x + _CHEEK_HALF] for x, y in _CHEEKS]
    return as_float32(np.mean(patches, axis=(0, 1, 2)))


def _dress(picture: Colours, rng: np.random.Generator, frame: Frame, attributes: Attributes, skin: Colour) -> Colours:
    """Add neck and shoulders below the face; only the rows from the chin down change."""
    first = int(np.searchsorted(frame.y[:, 0], 0.2))
    if first == frame.height:
        return picture
    x, y = np.abs(frame.x), frame.y[first:]
    soft = max(0.012, 1.5 / frame.unit)
    neck = smoothstep(x - 0.05 * smoothstep(y, 0.5, 0.8), 0.25 + soft, 0.25 - soft)
    under_chin = 0.62 + 0.3 * smoothstep(y, 0.5, 0.78) - 0.25 * (frame.x - 0.05) * smoothstep(x, 0.05, 0.3)
    lower = picture[first:]
    lower = lower + (skin * under_chin[..., None] - lower) * neck[..., None]
    line = 0.69 + 0.25 * smoothstep(x, 0.2, 1.0) + 0.10 * smoothstep(x, 0.24, 0.02)
    cloth = smoothstep(y - line, -soft, soft)
    seam = smoothstep(y - line, 0.045, 0.03) * smoothstep(x, 0.27, 0.24)
    if attributes.clothes:
        fold = frame.blobs(rng, 90, stretch=0.7)[first:]
        colours = PALETTE[attributes.clothes] * np.clip(1.02 + 0.09 * fold, 0.6, 1.3)[..., None]
        colours = colours + np.float32(0.02) * fold[..., None]
    else:
        colours = mottled(rng, frame, rng.uniform(60, 120))[first:]
    shade = 1.05 - 0.25 * x**2 - 0.22 * seam - 0.1 * smoothstep(x, 0.1, 0.0) * smoothstep(y, 0.8, 1.0)
    lower = lower + (colours * as_float32(shade)[..., None] - lower) * cloth[..., None]
    picture[first:] = lower
    return picture


def _rim_light(picture: Colours, frame: Frame) -> Colours:
    """Magenta from the left and cyan from the right on face and clothes, and dimmer between them."""
    body = smoothstep(frame.y - 0.25 * np.abs(frame.x), 0.5, 0.75) * smoothstep(np.abs(frame.x), 1.2, 0.8)
    lit = np.maximum(_mask(frame), body)
    grey = luma(picture)
    for tint, side in ((MAGENTA, -frame.x), (CYAN, frame.x)):
        share = smoothstep(side, 0.02, 0.42) * lit
        glowing = tint * (0.15 + 0.85 * grey)[..., None]
        picture = picture + (glowing - picture) * (0.62 * share)[..., None]
    return as_float32(picture)


def _sketch(picture: Colours, rng: np.random.Generator, frame: Frame, inside: Field) -> Colours:
    """Pencil on paper: outlines by dodging a blurred negative, and two layers of hatching in the shadows."""
    grey = luma(picture)
    width = float(np.clip(frame.unit / 22, 7, 20))
    around = cv2.GaussianBlur(grey, (0, 0), width)
    lines = np.clip((grey + 0.04) / (around + 0.04), 0.3, 1) ** 1.6
    tone = cv2.GaussianBlur(grey, (0, 0), width / 3)
    x, y = frame.x * frame.unit, frame.y * frame.unit
    wobble = 5 * frame.blobs(rng, 120)
    period = float(np.clip(frame.unit / 12, 24, 36))
    dark = np.zeros_like(grey)
    for along, level in ((x + y, 0.62), (x - 0.8 * y, 0.36)):
        stroke = smoothstep(np.sin((along + wobble) * np.float32(2 * np.pi / period)), -0.25, 0.75)
        dark += stroke * smoothstep(tone, level, level - 0.4)
    strength = 0.30 - 0.20 * inside
    shaded = 0.66 + 0.34 * smoothstep(tone, 0.05, 0.75)
    shaded = shaded + (0.30 + 0.75 * tone - shaded) * inside
    drawn = lines * np.clip(shaded, 0.2, 1) * (1 - strength * dark) * (1 + 0.02 * frame.blobs(rng, 24))
    # The drawing ends before the paper does.
    end = np.maximum(np.abs(frame.x) / frame.right, np.abs(frame.y) / frame.bottom) + 0.03 * wobble / 5
    share = 1 - 0.85 * smoothstep(end, 0.86, 1.0)
    return as_float32((1 - share * (1 - drawn))[..., None] * as_float32((0.97, 0.965, 0.95)))


def _oil(picture: Colours, rng: np.random.Generator, frame: Frame, inside: Field) -> Colours:
    """Oil on canvas: patches of one colour (Kuwahara), strokes in several directions, more colour and contrast."""
    radius = int(np.clip(frame.unit / 40, 3, 12))
    painted = _kuwahara(picture, radius)
    grey = luma(painted)[..., None]
    painted = grey + (painted - grey) * 1.4
    painted = 0.47 + (painted - 0.47) * 1.18
    strokes = [_strokes(rng, frame, turn) for turn in (0.5, -0.7, 1.5)]
    noise = frame.blobs(rng, 110)
    first = smoothstep(noise, -0.5, -0.1)
    chosen = strokes[0] + (strokes[1] - strokes[0]) * first
    chosen = chosen + (strokes[2] - chosen) * smoothstep(noise, 0.5, 0.9)
    relief = chosen * (0.14 - 0.09 * inside)
    return as_float32(painted * (1 + relief)[..., None] + 0.35 * relief[..., None])


def _strokes(rng: np.random.Generator, frame: Frame, turn: float) -> Field:
    """Noise of strokes 16 px wide and 70 px long, turned by radians; of deviation about 1."""
    side = int(np.hypot(frame.height, frame.width)) + 2
    straight = Frame(side, side, 2).blobs(rng, 16, stretch=4.5)
    cosine, sine = np.cos(turn), np.sin(turn)
    matrix = np.array([(cosine, -sine, 0.0), (sine, cosine, 0.0)]) / 2
    matrix[:, 2] = side / 4 - matrix[:, :2] @ (frame.width / 2, frame.height / 2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.tanh(as_float32(cv2.warpAffine(straight, matrix, (frame.width, frame.height), flags=flags)))


def _kuwahara(picture: Colours, radius: int) -> Colours:
    """Each px gets the mean of that of four squares at its corners which varies least."""
    side = radius + 1
    mean = cv2.blur(picture, (side, side))
    grey = luma(picture)
    variance = cv2.blur(grey * grey, (side, side)) - cv2.blur(grey, (side, side)) ** 2
    least = np.full_like(grey, np.inf)
    half = max(1, radius // 2)
    height, width = grey.shape
    means = cv2.copyMakeBorder(mean, half, half, half, half, cv2.BORDER_REPLICATE)
    variances = cv2.copyMakeBorder(variance, half, half, half, half, cv2.BORDER_REPLICATE)
    best = np.zeros_like(picture)
    for top in (0, 2 * half):
        for left in (0, 2 * half):
            here = variances[top : top + height, left : left + width]
            closer = here < least
            least = np.where(closer, here, least)
            np.copyto(best, means[top : top + height, left : left + width], where=closer[..., None])
    return as_float32(cv2.GaussianBlur(best, (0, 0), 1.0))


def _watercolour(picture: Colours, rng: np.random.Generator, frame: Frame, inside: Field) -> Colours:
    """Pale washes on white paper, darker at their edges, that end before the paper does."""
    width = float(np.clip(frame.unit / 50, 3, 9))
    washed = cv2.bilateralFilter(cv2.GaussianBlur(picture, (0, 0), width / 3), 7, 0.15, width)
    grey = luma(washed)
    around = cv2.GaussianBlur(grey, (0, 0), 2.2 * width)
    pigment = np.clip(1 + 1.1 * (grey - around), 0.72, 1.08)
    bloom = 0.10 * np.tanh(frame.blobs(rng, 70)) + 0.05 * np.tanh(frame.blobs(rng, 26))
    bloom = bloom * (1 - 0.7 * inside)
    thin = np.clip(0.60 - 0.08 * inside + bloom, 0.2, 0.9)[..., None]
    paper = as_float32((0.985, 0.975, 0.95))
    coloured = grey[..., None] + (washed - grey[..., None]) * 1.25
    drawn = (paper + (coloured * pigment[..., None] - paper) * (1 - thin * (0.35 + 0.65 * grey[..., None]))) * 1.02
    edge = np.maximum(np.abs(frame.x) / frame.right, np.abs(frame.y) / frame.bottom) + 0.07 * frame.blobs(rng, 90)
    wash = smoothstep(edge, 0.94, 0.86)[..., None]
    rim = (smoothstep(edge, 0.8, 0.88) * smoothstep(edge, 0.94, 0.88))[..., None]
    return as_float32(paper + (drawn * (1 - 0.12 * rim) - paper) * wash)


_STYLES: Final = {"pencil sketch": _sketch, "oil painting": _oil, "watercolor": _watercolour}
