"""Measures demo weights on pictures they were not trained on: `python -m training.evaluation.evaluate FOLDER`.

Light, noise and time come from default requests; those for prompt words have half of the steps, and their second pass
is no larger than the first.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.ic_light import vae
from models.ic_light.conditioning import resize_and_center_crop
from models.ic_light.networks import Networks, load_networks
from models.ic_light.params import Params
from models.ic_light.pipeline import IcLight
from models.weights.installed import WeightSet
from training.data.photos import HELD_OUT, Picture, load_photo
from training.evaluation.goals import Figures, Light, Noise, RoundTrip, WordShift, check_goals, table, write_figures
from training.evaluation.metrics import (
    Axis,
    Box,
    Mask,
    box_luma,
    chroma_error,
    flat_noise,
    light_quotient,
    mean_chroma,
    psnr,
)
from training.evaluation.requests import encode_png, first_picture, ignore_step, print_progress
from training.stages.loop import Logger

PLAIN_WORDS: Final = "soft light"
NAMED: Final[Mapping[str, tuple[int, int]]] = {
    "warm light": (0, 1),
    "blue light": (0, -1),
    "neon light": (1, -1),
    "green forest": (-1, 0),
}
"""Expected signs of the shifts of (a*, b*); 0: the words do not name that component. Neon is magenta."""
_OPPOSITES: Final[Mapping[Axis, tuple[str, str]]] = {
    "left/right": ("Left Light", "Right Light"),
    "top/bottom": ("Top Light", "Bottom Light"),
}
_SOURCES: Final = tuple(source for pair in _OPPOSITES.values() for source in pair)
_FIRST_PASS: Final = (512, 640)
"""(width, height) in px of a default request's first pass."""
_SPHERE: Final = "sphere"
_PLAIN_BACKGROUND: Final = "clock_motion"
"""The held-out picture whose corners show plain wall only."""
_PARTS: Final[Mapping[str, Box]] = {"rocket": (224, 120, 424, 370)}
"""Crops of pictures: in the whole one the rocket covers too little to measure light on."""
_CORNERS: Final[tuple[Box, ...]] = ((8, 12, 52, 78), (204, 12, 248, 78), (8, 242, 52, 308), (204, 242, 248, 308))
"""Plain wall in both pictures whose noise is measured, at `_NOISE_SIZE`."""
_NOISE_SIZE: Final = (256, 320)
"""(width, height) in px to which 768 x 960 px are reduced before noise is measured."""


@dataclass(frozen=True)
class Plan:
    """Pictures and seeds of an evaluation, and the parameters of its requests that differ from the defaults."""

    pictures: Sequence[str]
    seeds: Sequence[int]
    lit: Mapping[str, Any] = field(default_factory=dict)
    worded: Mapping[str, Any] = field(default_factory=dict)
    shortened: bool = False


FULL: Final = Plan(HELD_OUT, seeds=(1, 2, 3), worded={"highres_scale": 1, "steps": 12})
"""69 default requests and 25 smaller ones: ten to fifteen minutes on two CPU cores."""
_SMALL: Final = {"width": 256, "height": 320, "steps": 3, "highres_scale": 1}
QUICK: Final = Plan((_PLAIN_BACKGROUND,), seeds=(1,), lit=_SMALL, worded=_SMALL, shortened=True)
"""A smoke test, which takes seconds."""


class Model:
    """The loaded weights, called as the worker calls them."""

    def __init__(self, weights: WeightSet) -> None:
        """Load them onto the CPU; raises `WeightsError`."""
        self._networks: Networks = load_networks(weights, torch.device("cpu"))
        self._pipeline = IcLight(self._networks)

    def relight(self, photo: Picture, requests: Sequence[Mapping[str, Any]]) -> list[Picture]:
        """Generate one picture for each request; all have the same batch key."""
        images = {"subject_image": encode_png(photo)}
        batch = [self._pipeline.prepare(Params(subject_image="photo", **request), images) for request in requests]
        return [first_picture(outcome) for outcome in self._pipeline.run(batch, ignore_step)]

    @torch.inference_mode()
    def mask(self, photo: Picture, width: int, height: int) -> Mask:
        """The matting network's mask of the subject, cropped and scaled as the subject is."""
        picture, matting = _tensor(photo), self._networks.matting
        alpha = matting.alpha(matting.to_feed(picture), picture.shape[1], picture.shape[0])
        levels = (alpha * 255).to(torch.uint8).expand(-1, -1, 3)
        return np.asarray(resize_and_center_crop(levels, width, height)[..., 0].numpy() > 127)

    @torch.inference_mode()
    def round_trip(self, photo: Picture) -> tuple[Picture, Picture]:
        """The photo cropped to the size of a default first pass, before and after the autoencoder."""
        cut = resize_and_center_crop(_tensor(photo), *_FIRST_PASS)
        latents = vae.encode_pictures(self._networks.vae, cut[None])
        return cut.numpy(), vae.decode_picture(self._networks.vae, latents).pictures[0].numpy()


def measure(weights: Path, plan: Plan, log: Logger) -> Figures:
    """Measure the ic-light weights below the folder `weights`; raises `WeightsError`."""
    model = Model(WeightSet.open(weights, "ic-light"))
    log("a default request")
    request_s = _seconds(model, plan)
    return Figures(
        light=[figure for name in plan.pictures for figure in _light(model, plan, name, log)],
        round_trips=[_round_trip(model, name) for name in plan.pictures],
        words=sorted(
            (figure for name in plan.pictures for figure in _words(model, plan, name, log)), key=lambda one: one.words
        ),
        noise=[_noise(model, plan, name, log) for name in (_SPHERE, _PLAIN_BACKGROUND)],
        request_s=request_s,
        shortened=plan.shortened,
    )


def sphere(width: int, height: int) -> Picture:
    """A matt orange sphere in the middle of a plain wall, lit from the front: [height, width, 3]."""
    rows, columns = np.mgrid[:height, :width]
    radius = 0.28 * width
    square = ((columns - width / 2) ** 2 + (rows - height / 2) ** 2) / radius**2
    facing = np.sqrt(np.clip(1 - square, 0, 1))[..., None]
    ball = (0.25 + 0.75 * facing) * np.array([235, 140, 60])
    return np.where(square[..., None] < 1, ball, 160).astype(np.uint8)


def _light(model: Model, plan: Plan, name: str, log: Logger) -> Iterator[Light]:
    drawn = {seed: _lit(model, plan, name, seed, log) for seed in plan.seeds}
    height, width = drawn[plan.seeds[0]]["Left Light"].shape[:2]
    mask = model.mask(_photo(name), width, height)
    for axis, (near, far) in _OPPOSITES.items():
        for seed, lit in drawn.items():
            whole = light_quotient(lit[near], lit[far], axis)
            assert whole is not None, "a whole picture has two halves"
            subject = light_quotient(lit[near], lit[far], axis, mask)
            yield Light(name, axis, seed, whole, subject, float(mask.mean()))


def _lit(model: Model, plan: Plan, name: str, seed: int, log: Logger) -> dict[str, Picture]:
    """The photo of that name lit from all four sides."""
    requests = [{"prompt": PLAIN_WORDS, "light_source": source, "seed": seed, **plan.lit} for source in _SOURCES]
    log(f"{name} lit from four sides, seed {seed}")
    return dict(zip(_SOURCES, model.relight(_photo(name), requests), strict=True))


def _round_trip(model: Model, name: str) -> RoundTrip:
    photo, decoded = model.round_trip(load_photo(name))
    return RoundTrip(name, psnr(photo, decoded), chroma_error(photo, decoded))


def _words(model: Model, plan: Plan, name: str, log: Logger) -> Iterator[WordShift]:
    log(f"{name} in words")
    requests = [{"prompt": words, "seed": plan.seeds[0], **plan.worded} for words in (PLAIN_WORDS, *NAMED)]
    plain, *worded = [mean_chroma(picture) for picture in model.relight(_photo(name), requests)]
    for (words, signs), found in zip(NAMED.items(), worded, strict=True):
        shift = found[0] - plain[0], found[1] - plain[1]
        yield WordShift(words, name, *shift, named=min(s * d for s, d in zip(signs, shift, strict=True) if s))


def _noise(model: Model, plan: Plan, name: str, log: Logger) -> Noise:
    lit = _lit(model, plan, name, plan.seeds[0], log)
    reduced = [_reduced(picture) for picture in lit.values()]
    levels = np.array([flat_noise(picture, _CORNERS) for picture in reduced])
    brightness = np.mean([box_luma(picture, _CORNERS) for picture in reduced])
    return Noise(name, float(np.sqrt(np.square(levels).mean())), float(brightness))


def _photo(name: str) -> Picture:
    if name == _SPHERE:
        return sphere(*_FIRST_PASS)
    photo = load_photo(name)
    left, top, right, bottom = _PARTS.get(name, (0, 0, photo.shape[1], photo.shape[0]))
    return photo[top:bottom, left:right]


def _seconds(model: Model, plan: Plan) -> float:
    """Time of one request alone, from its photo to its pixels."""
    began = time.monotonic()
    model.relight(_photo(_SPHERE), [{"prompt": PLAIN_WORDS, "light_source": "Left Light", **plan.lit}])
    return time.monotonic() - began


def _reduced(picture: Picture) -> Picture:
    return np.asarray(Image.fromarray(picture).resize(_NOISE_SIZE, Image.Resampling.LANCZOS))


def _tensor(photo: Picture) -> Tensor:
    return torch.from_numpy(photo.copy())


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print a table; exit status 1 if the run was a full one and a goal is missed.

    `words`: the command's arguments, those of the process if not given.
    """
    parser = argparse.ArgumentParser(prog="python -m training.evaluation.evaluate", description=__doc__)
    parser.add_argument("weights", type=Path, help="folder of built demo weights")
    parser.add_argument("--quick", action="store_true", help="smoke test: small pictures in few steps")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args(words)
    figures = measure(arguments.weights, QUICK if arguments.quick else FULL, print_progress)
    if arguments.json:
        write_figures(arguments.json, figures)
    sys.stdout.write(table(figures))
    if not (figures.shortened or all(line.passed for line in check_goals(figures))):
        sys.exit(1)


if __name__ == "__main__":
    main()
