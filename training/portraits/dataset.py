"""The dataset of portraits: faces, what the face code has of them, and scenes, sampled and encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from models.demo.face_code import grids
from models.ic_light.vae import encode_pictures
from training.portraits.faces import recogniser_crop, sample_face
from training.portraits.prompts import NOTHING, describe, sample_attributes, sample_prompt
from training.portraits.scenes import compose
from training.stages.loop import Logger

FREE_AMOUNT: Final = 0.5
"""`amount` of the scenes for `stylized`: the freest."""
_FREE: Final = 0.35
"""Share of those scenes."""
_SCENES_EACH: Final = 2
"""Scenes of every face: drawing a face costs more than composing a scene."""
_PROMPTS_EACH: Final = 3
_PLAIN: Final = 0.15
"""Share of the scenes whose prompt says nothing of the picture."""


@dataclass(frozen=True)
class Bucket:
    """Number of faces of one size in px, and scenes per batch."""

    faces: int
    batch: int
    width: int
    height: int


BUCKETS: Final = (
    Bucket(1300, 8, 256, 256),
    Bucket(200, 4, 320, 448),
    Bucket(200, 2, 512, 512),
    Bucket(40, 1, 640, 896),
    Bucket(40, 1, 896, 640),
    Bucket(50, 1, 1024, 1024),
)


@dataclass(frozen=True)
class Examples:
    """All scenes of one bucket, and their faces.

    `latents` [n, 4, h, w], scaled; `luma` [n, 40, 32] and `chroma` [n, 2, 10, 16] are those of `face_code.grids`;
    `free` [n] whether the face is drawn freely; `prompts` has as many for each scene as for any other.
    """

    batch: int
    size: tuple[int, int]
    latents: Tensor
    luma: Tensor
    chroma: Tensor
    free: Tensor
    prompts: list[list[str]]


@dataclass(frozen=True)
class _Sample:
    pictures: NDArray[np.uint8]
    grids: tuple[NDArray[np.float32], NDArray[np.float32]]
    free: list[bool]
    prompts: list[list[str]]


def encode_portraits(vae: Any, buckets: Sequence[Bucket], file: Path, log: Logger) -> list[Examples]:
    """Sample and encode all scenes, or read them from `file` if it exists; drawing runs beside the encoder."""
    if not file.is_file():
        total = sum(bucket.faces for bucket in buckets)
        with (
            ProcessPoolExecutor(1, get_context("forkserver")) as pool,
            tqdm(total=total, desc="portraits", mininterval=5) as bar,
            torch.inference_mode(),
        ):
            dataset = [vars(_encode(vae, number, bucket, pool, bar)) for number, bucket in enumerate(buckets)]
        torch.save(dataset, file)
        log(f"portraits: {total} faces, {total * _SCENES_EACH} scenes")
    return [Examples(**examples) for examples in torch.load(file, weights_only=True)]


def _encode(vae: Any, number: int, bucket: Bucket, pool: ProcessPoolExecutor, bar: Any) -> Examples:
    latents: list[Tensor] = []
    luma: list[Tensor] = []
    chroma: list[Tensor] = []
    free: list[bool] = []
    prompts: list[list[str]] = []
    keys = [(number, index) for index in range(bucket.faces)]
    for sample in pool.map(_sample, keys, [(bucket.height, bucket.width)] * len(keys), chunksize=4):
        latents.append(encode_pictures(vae, torch.from_numpy(sample.pictures)).half())
        for grid, found in zip(sample.grids, (luma, chroma), strict=True):
            found.append(torch.from_numpy(grid).expand(_SCENES_EACH, *grid.shape))
        free += sample.free
        prompts += sample.prompts
        bar.update()
    return Examples(
        batch=bucket.batch,
        size=(bucket.width, bucket.height),
        latents=torch.cat(latents),
        luma=torch.cat(luma),
        chroma=torch.cat(chroma),
        free=torch.tensor(free),
        prompts=prompts,
    )


def _sample(key: tuple[int, int], size: tuple[int, int]) -> _Sample:
    """A face and its scenes."""
    rng = np.random.default_rng((23, *key))
    face = sample_face(rng)
    crop = np.round(face * 255).astype(np.uint8)
    pictures, free, prompts = [], [], []
    for _ in range(_SCENES_EACH):
        plain = rng.random() < _PLAIN
        attributes = NOTHING if plain else sample_attributes(rng)
        free.append(bool(rng.random() < _FREE))
        picture = compose(face, attributes, size, rng, FREE_AMOUNT if free[-1] else 1.0)
        pictures.append(np.round(picture * 255).astype(np.uint8))
        prompts.append([_nothing(rng) if plain else describe(attributes, rng) for _ in range(_PROMPTS_EACH)])
    return _Sample(np.stack(pictures), grids(crop, recogniser_crop(crop).astype(np.uint8)), free, prompts)


def _nothing(rng: np.random.Generator) -> str:
    while (sampled := sample_prompt(rng))[0] != NOTHING:
        pass
    return sampled[1]
