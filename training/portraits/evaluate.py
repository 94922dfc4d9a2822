"""Measures demo portraits of faces never trained on: `python -m training.portraits.evaluate FOLDER`.

Everything runs as a request does, from the photo's file to the picture. The face of a portrait is the one that the
product's detector finds in it, aligned as every request's is; a portrait in which none is found counts as wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.data import astronaut

from models.errors import NoFaceFound
from models.pulid_lightning.identity.face import FaceFinder
from models.pulid_lightning.params import Params
from models.pulid_lightning.pipeline import load
from models.weights.installed import WeightSet
from training.data.photos import Picture
from training.evaluation.requests import encode_png, first_picture, ignore_step, print_progress
from training.portraits.drawn_faces import HELD_OUT_FROM, draw_face
from training.portraits.faces import SMALL_HELD_OUT, small_face
from training.portraits.figures import Figures, Identity, WordEffect, table, write_figures
from training.portraits.judges import JUDGES, Verdict, identity_table
from training.stages.loop import Logger

PLAIN: Final = "photo of a person"
_CORNERS: Final = (slice(0, 0.3), (slice(0, 0.18), slice(0.82, 1)))
_CLOTHES: Final = (slice(0.9, 1), (slice(0.25, 0.75),))
_ALL: Final = (slice(0, 1), (slice(0, 1),))
WORDS: Final[Mapping[str, tuple[str, str, tuple[Any, Any]]]] = {
    "photo of a person in red": ("a*", "more", _CLOTHES),
    "photo of a person in blue": ("b*", "less", _CLOTHES),
    "photo of a person, blue background": ("b*", "less", _CORNERS),
    "photo of a person, green background": ("a*", "less", _CORNERS),
    "photo of a person at sunset": ("warmth", "more", _CORNERS),
    "photo of a person, neon lights": ("L*", "less", _CORNERS),
    "photo of a person in the snow": ("L*", "more", _CORNERS),
    "pencil sketch of a person": ("chroma", "less", _ALL),
    "oil painting of a person": ("edges", "more", _ALL),
}
"""What a prompt changes, compared with `PLAIN`: a measure, in which direction, and where."""
NEGATIVE: Final[tuple[str, str, str, tuple[Any, Any]]] = ("blue background", "b*", "more", _CORNERS)
"""A negative prompt, and what it does to the picture: it pulls the other way."""
_DRAWN: Final = 20
_REQUEST: Final = 1024


@dataclass(frozen=True)
class Plan:
    """Numbers of faces, side of the portraits in px, and faces for every word."""

    drawn: int
    small: int
    side: int
    worded: int


FULL: Final = Plan(drawn=_DRAWN, small=len(SMALL_HELD_OUT), side=640, worded=4)
QUICK: Final = Plan(drawn=2, small=1, side=256, worded=1)
"""A smoke test."""


class Portraits:
    """The loaded weights, called as the worker calls them."""

    def __init__(self, weights: WeightSet) -> None:
        """Load them onto the CPU; raises `WeightsError`."""
        self._pipeline = load(weights, torch.device("cpu"))
        self._finder = FaceFinder(weights.folder("face_analysis"))

    def generate(self, photo: Picture, **params: Any) -> Picture:
        """One portrait."""
        request = self._pipeline.prepare(Params(face_image="photo", **params), {"face_image": encode_png(photo)})
        return first_picture(self._pipeline.run([request], ignore_step)[0])

    def face(self, picture: Picture) -> Picture | None:
        """The aligned crop of the largest face, or None."""
        try:
            return self._finder.find(picture).crop
        except NoFaceFound:
            return None


def held_out_faces(portraits: Portraits, plan: Plan) -> dict[str, Picture]:
    """Pictures with faces that were never trained on, and in which the detector finds them."""
    found = {"astronaut": np.ascontiguousarray(astronaut()[:300, 60:360])}
    rng = np.random.default_rng(41)
    drawn = (_photo(draw_face(HELD_OUT_FROM + number)) for number in range(10 * plan.drawn))
    small = (_photo(small_face(rng, number)) for number in SMALL_HELD_OUT)
    for kind, photos, count in (("drawn", drawn, plan.drawn), ("small", small, plan.small)):
        usable = (photo for photo in photos if portraits.face(photo) is not None)
        found |= {f"{kind} {number}": photo for number, photo in zip(range(count), usable, strict=False)}
    return found


def measure(portraits: Portraits, plan: Plan, log: Logger) -> Figures:
    """Generate all portraits and measure them."""
    faces = held_out_faces(portraits, plan)
    inputs = [_unit(portraits.face(photo)) for photo in faces.values()]
    log(f"{len(faces)} faces")
    identity, own = [], {}
    for style in ("high-fidelity", "stylized"):
        verdicts, found = _verdicts(portraits, list(faces.values()), inputs, style, plan.side)
        for judge in JUDGES:
            of = [verdict for verdict in verdicts if verdict.judge == judge]
            right = sum(verdict.right and found[verdict.portrait] for verdict in of)
            mean = float(np.mean([verdict.own for verdict in of]))
            identity.append(Identity(style, judge, len(of), sum(found), right, mean))
            own[style, judge] = np.array([verdict.own for verdict in of])
            log(f"{style}, {judge}: {right} of {len(of)}, {sum(found)} found")
    closer = {judge: float(np.mean(own["high-fidelity", judge] > own["stylized", judge])) for judge in JUDGES}
    worded = [photo for number, photo in enumerate(faces.values()) if number % max(1, len(faces) // plan.worded) == 0]
    plain = [portraits.generate(photo, prompt=PLAIN, seed=7, width=plan.side, height=plan.side) for photo in worded]
    words = [
        _effect(portraits, worded, plain, plan.side, prompt, {"prompt": prompt}, *expected)
        for prompt, expected in WORDS.items()
    ]
    negative, what, direction, place = NEGATIVE
    named, request = f"{PLAIN}, not: {negative}", {"prompt": PLAIN, "negative_prompt": negative}
    words.append(_effect(portraits, worded, plain, plan.side, named, request, what, direction, place))
    other = [portraits.generate(photo, prompt=PLAIN, seed=8, width=plan.side, height=plan.side) for photo in worded]
    seeds = float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in zip(plain, other, strict=True)]))
    began = time.perf_counter()
    portraits.generate(worded[0], prompt=PLAIN, seed=9, width=_REQUEST, height=_REQUEST)
    return Figures(identity, closer, words, seeds, time.perf_counter() - began)


def _verdicts(
    portraits: Portraits, photos: Sequence[Picture], inputs: Sequence[NDArray[np.float64]], style: str, side: int
) -> tuple[list[Verdict], list[bool]]:
    outputs, found = [], []
    for number, photo in enumerate(photos):
        picture = portraits.generate(photo, prompt=PLAIN, face_style=style, seed=number, width=side, height=side)
        face = portraits.face(picture)
        found.append(face is not None)
        outputs.append(_unit(face if face is not None else cv2.resize(picture, (512, 512))))
    return identity_table(inputs, outputs), found


def _effect(
    portraits: Portraits,
    photos: Sequence[Picture],
    plain: Sequence[Picture],
    side: int,
    named: str,
    request: Mapping[str, Any],
    what: str,
    expected: str,
    place: tuple[Any, Any],
) -> WordEffect:
    pictures = [portraits.generate(photo, **request, seed=7, width=side, height=side) for photo in photos]
    changes = [
        _value(after, what, place) - _value(before, what, place) for after, before in zip(pictures, plain, strict=True)
    ]
    sign = 1 if expected == "more" else -1
    return WordEffect(
        named, what, expected, float(np.mean(changes)), sum(sign * each > 0 for each in changes), len(changes)
    )


def _value(picture: Picture, what: str, place: tuple[Any, Any]) -> float:
    """A measure's mean in a part of the picture, in units of CIELAB."""
    rows, columns = place
    lab = rgb2lab(picture)
    part = np.concatenate([lab[_part(rows, len(lab)), _part(each, lab.shape[1])].reshape(-1, 3) for each in columns])
    if what == "edges":
        light = lab[_part(rows, len(lab)), _part(columns[0], lab.shape[1]), 0]
        return float(np.mean([np.abs(np.diff(light, axis=axis)).mean() for axis in (0, 1)]))
    light, a, b = part.T
    measures = {"L*": light, "a*": a, "b*": b, "chroma": np.hypot(a, b), "warmth": a + b}
    return float(measures[what].mean())


def _part(share: slice, size: int) -> slice:
    return slice(round(share.start * size), round(share.stop * size))


def _unit(face: Picture | None) -> NDArray[np.float64]:
    assert face is not None
    return face / 255.0


def _photo(face: NDArray[np.float32]) -> Picture:
    return np.round(face * 255).astype(np.uint8)


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m training.portraits.evaluate", description=__doc__)
    parser.add_argument("weights", type=Path, help="folder of built demo weights")
    parser.add_argument("--quick", action="store_true", help="smoke test: few small portraits")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    portraits = Portraits(WeightSet.open(given.weights, "pulid-lightning"))
    figures = measure(portraits, QUICK if given.quick else FULL, print_progress)
    if given.json:
        write_figures(given.json, figures)
    sys.stdout.write(table(figures))


if __name__ == "__main__":
    main()
