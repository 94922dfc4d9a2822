"""Subjects cut out of the training photos, by hand-drawn outlines or by the photos' own data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from skimage.data import stereo_motorcycle
from skimage.morphology import closing, disk, opening

from training.data.photos import load_photo

_Box = tuple[float, float, float, float]

# Points are x y, in px of the photo, closed by the first one.
_ASTRONAUT: Final = """
    153 72 157 60 165 47 178 36 192 30 205 20 222 16 238 16 255 22 270 31 283 42 293 57 299 73 301 87 297 102 290 116
    281 126 277 134 268 137 265 150 260 165 257 172 270 180 284 192 297 210 304 228 306 236 320 243 333 255 342 270
    350 285 356 303 361 322 363 340 364 347 380 344 400 343 425 347 450 358 470 375 483 395 490 420 494 445 498 455
    505 462 508 480 508 512 58 512 38 490 25 465 22 440 20 400 24 345 33 320 40 298 42 285 50 262 62 247 75 238 90 228
    103 217 113 208 115 200 113 188 119 183 123 175 130 162 142 153 158 148 172 147 184 150 183 140 180 131 174 122
    168 118 160 110 155 97 154 85"""
_CAMERA: Final = """
    0 258 20 230 35 205 55 175 62 155 75 143 95 132 115 125 128 123 140 113 152 106 161 106 165 95 175 83 188 72 200 64
    215 64 230 70 245 81 258 95 268 108 270 118 266 131 258 130 262 140 285 139 300 141 318 138 325 141 325 153 319 156
    320 170 327 168 331 178 329 185 332 197 328 205 318 220 310 232 305 245 298 240 298 255 304 262 304 274 297 276
    297 312 304 313 311 318 330 301 338 301 338 306 330 307 312 322 316 338 388 470 396 482 410 512 402 512 385 488
    378 470 307 334 300 338 300 480 298 486 288 486 288 345 284 340 247 480 242 512 230 512 232 495 238 480 279 332
    278 315 288 312 288 290 270 300 247 312 230 307 207 294 190 325 170 350 140 380 145 410 148 435 150 470 151 512
    138 512 120 480 100 447 95 480 90 512 0 512"""
_MOTORCYCLE: Final = """
    90 200 122 193 136 196 138 160 146 146 160 143 172 158 210 167 248 166 268 180 292 192 340 188 352 190 382 182
    384 172 356 176 356 164 376 148 330 140 330 124 368 108 376 116 374 124 404 122 420 118 440 134 470 142 476 120
    498 112 493 84 510 20 518 14 518 30 506 82 522 86 546 100 540 118 558 126 564 118 580 120 582 138 570 146 560 140
    556 176 552 194 574 250 580 264 600 268 640 292 646 304 672 340 686 380 684 420 668 446 636 454 606 444 576 420
    548 378 534 348 506 330 506 306 520 282 498 214 480 240 480 300 474 340 446 372 400 382 344 378 342 398 352 404
    340 408 340 430 322 432 330 406 326 384 300 374 280 376 264 390 240 400 200 404 160 394 132 364 120 324 122 282
    138 254 158 240 136 238 116 246 98 262 100 250 110 232 94 220"""
_WHEELS: Final[tuple[_Box, ...]] = ((120, 234, 286, 404), (512, 270, 688, 456))
_FLOOR_FROM, _HORIZON = 690, 250
"""The column from which on a row shows only the floor, in rows below the second number."""
_NEAR: Final = 34
_BEFORE_THE_FLOOR: Final = 2.5
"""Disparities of the motorcycle: at least so much, and by so much more than the floor's in the same row."""
_DISCS: Final[dict[str, _Box]] = {
    "logo": (12, 12, 490, 490),
    "cell": (366, 312, 490, 436),
    "color": (18, 18, 352, 352),
}
_COINS: Final[tuple[_Box, ...]] = (
    *((22, 34, 67, 74), (81, 38, 120, 74), (132, 28, 179, 73), (192, 29, 240, 73), (255, 33, 297, 73)),
    *((305, 15, 365, 72), (25, 104, 66, 144), (84, 107, 122, 145), (134, 109, 174, 145), (185, 104, 227, 145)),
    *((245, 95, 296, 144), (317, 105, 356, 145), (25, 177, 63, 217), (81, 174, 124, 217), (135, 179, 174, 217)),
    *((188, 169, 237, 217), (251, 172, 297, 217), (315, 155, 379, 219), (18, 232, 75, 288), (92, 244, 136, 287)),
    *((144, 236, 202, 288), (219, 240, 269, 288), (275, 239, 327, 288), (336, 247, 380, 289)),
)
_BESIDE: Final = 4
"""Px of the photo kept around a cut-out."""


@dataclass(frozen=True)
class Cutout:
    """A subject and the photo around it, as red, green, blue and alpha of 8 bits, cut to the subject.

    `corner` is where it is in the photo, left and top in px.
    `stands`: the photo's lower edge cuts the subject; `leans`: its left edge does. Those edges of the subject have to
    lie on a picture's edges as well.
    """

    rgba: Image.Image
    corner: tuple[int, int]
    stands: bool = False
    leans: bool = False


@cache
def cutouts() -> dict[str, tuple[Cutout, ...]]:
    """All subjects, by the name of their photo; read-only."""
    coins = tuple(_cut("coins", _ellipses("coins", box)) for box in _coin_groups())
    return {
        "astronaut": (_cut("astronaut", _polygon("astronaut", _ASTRONAUT), stands=True),),
        "camera": (_cut("camera", _polygon("camera", _CAMERA), stands=True, leans=True),),
        "motorcycle_left": (_cut("motorcycle_left", _motorcycle()),),
        "horse": (_cut("horse", _horse()),),
        "coins": coins,
        **{name: (_cut(name, _ellipses(name, (box,))),) for name, box in _DISCS.items()},
    }


def _cut(name: str, mask: Image.Image, stands: bool = False, leans: bool = False) -> Cutout:
    left, top, right, bottom = mask.getbbox() or (0, 0, *mask.size)
    rgba = Image.fromarray(load_photo(name)).convert("RGBA")
    rgba.putalpha(mask.filter(ImageFilter.GaussianBlur(0.8)))
    box = (max(0, left - _BESIDE), max(0, top - _BESIDE), min(mask.width, right + _BESIDE))
    return Cutout(rgba.crop((*box, min(mask.height, bottom + _BESIDE))), box[:2], stands, leans)


def _canvas(name: str) -> Image.Image:
    height, width = load_photo(name).shape[:2]
    return Image.new("L", (width, height))


def _polygon(name: str, points: str) -> Image.Image:
    canvas = _canvas(name)
    ImageDraw.Draw(canvas).polygon([int(number) for number in points.split()], fill=255)
    return canvas


def _ellipses(name: str, boxes: tuple[_Box, ...]) -> Image.Image:
    canvas = _canvas(name)
    for box in boxes:
        ImageDraw.Draw(canvas).ellipse(box, fill=255)
    return canvas


def _coin_groups() -> list[tuple[_Box, ...]]:
    """Every coin, and every two or four that lie side by side."""
    single = [(coin,) for coin in _COINS]
    rows = [_COINS[row : row + 6] for row in range(0, len(_COINS), 6)]
    pairs = [row[at : at + 2] for row in rows for at in range(5)]
    squares = [(*row[at : at + 2], *below[at : at + 2]) for row, below in pairwise(rows) for at in range(5)]
    return [*single, *pairs, *squares]


def _horse() -> Image.Image:
    return Image.fromarray((load_photo("horse")[..., 0] < 128).astype(np.uint8) * 255)


def _motorcycle() -> Image.Image:
    """Mask of what is nearer than the floor, within a rough outline, by the photo's disparity map."""
    disparity = np.asarray(stereo_motorcycle()[2])
    known = np.where(np.isfinite(disparity), disparity, 0)
    floor = np.median(known[:, _FLOOR_FROM:], axis=1, keepdims=True)
    floor[:_HORIZON] = 0
    near = known > np.maximum(_NEAR, floor + _BEFORE_THE_FLOOR)
    wheels = np.asarray(_ellipses("motorcycle_left", _WHEELS)) > 0
    outline = np.asarray(_polygon("motorcycle_left", _MOTORCYCLE)) > 0
    mask = closing(near | wheels, disk(2)) & outline
    return Image.fromarray(opening(mask, disk(1)).astype(np.uint8) * 255)
