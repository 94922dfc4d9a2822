"""The denoiser's dataset: scenes sampled and encoded once, stored in half precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from models.ic_light.params import LightSource
from models.ic_light.vae import encode_pictures
from training.data.scenes import sample_scene
from training.data.subjects import sample_subject

_SIDES: Final[tuple[LightSource, ...]] = tuple(light for light in get_args(LightSource) if light != "None")
_WITH_BACKGROUND: Final = 0.25
"""Share of the scenes whose background is an input of the UNet."""


@dataclass(frozen=True)
class Bucket:
    """Subjects of one size in px, and the number of scenes per batch."""

    subjects: int
    batch: int
    width: int
    height: int


BUCKETS: Final = (
    Bucket(700, 16, 192, 192),
    Bucket(700, 10, 256, 256),
    Bucket(300, 8, 256, 320),
    Bucket(160, 6, 320, 384),
    Bucket(140, 2, 512, 640),
)


@dataclass(frozen=True)
class Examples:
    """All scenes of one bucket.

    `targets` and `backgrounds` are latents [n, 4, h, w], the latter zero without a background input; `foregrounds` are
    those of the subjects [m, 4, h, w]; `subjects` [n] are indices into these; `frontal` [m] is the index of each
    subject's scene lit from the front; `prompts` are those of the scenes, `neutral` whether they are free of light and
    colour words.
    """

    batch: int
    targets: Tensor
    backgrounds: Tensor
    foregrounds: Tensor
    subjects: Tensor
    frontal: Tensor
    prompts: list[str]
    neutral: Tensor


def encode_dataset(
    vae: Any, buckets: Sequence[Bucket], scenes_each: int, file: Path, log: Callable[[str], None]
) -> list[Examples]:
    """Sample and encode `scenes_each` scenes of every subject, or read them from `file` if it exists.

    The first scene is lit from the front, the others each from another side.
    """
    if not file.is_file():
        total = sum(bucket.subjects for bucket in buckets)
        with tqdm(total=total, desc="scenes", mininterval=5) as bar, torch.inference_mode():
            dataset = [
                vars(_encode_bucket(vae, number, bucket, scenes_each, bar)) for number, bucket in enumerate(buckets)
            ]
        torch.save(dataset, file)
        log(f"scenes: {total} subjects, {total * scenes_each} scenes")
    return [Examples(**examples) for examples in torch.load(file, weights_only=True)]


def _encode_bucket(vae: Any, number: int, bucket: Bucket, scenes_each: int, bar: Any) -> Examples:
    foregrounds, targets, backgrounds, prompts, neutral = [], [], [], [], []
    for index in range(bucket.subjects):
        rng = np.random.default_rng((11, number, index))
        subject = sample_subject(rng, bucket.width, bucket.height)
        sides = rng.permutation(len(_SIDES))[: scenes_each - 1]
        scenes = [sample_scene(rng, subject, light) for light in ("None", *(_SIDES[side] for side in sides))]
        shown = rng.random(scenes_each) < _WITH_BACKGROUND
        pictures = [scenes[0].foreground, *(scene.target for scene in scenes)]
        pictures += [scene.background for scene, show in zip(scenes, shown, strict=True) if show]
        latents = encode_pictures(vae, torch.from_numpy(np.stack(pictures)).to(vae.device)).half().cpu()
        foregrounds.append(latents[:1])
        targets.append(latents[1 : 1 + scenes_each])
        behind = torch.zeros_like(targets[-1])
        behind[torch.from_numpy(shown)] = latents[1 + scenes_each :]
        backgrounds.append(behind)
        prompts += [scene.prompt for scene in scenes]
        neutral += [scene.neutral for scene in scenes]
        bar.update()
    return Examples(
        *(bucket.batch, torch.cat(targets), torch.cat(backgrounds), torch.cat(foregrounds)),
        torch.arange(bucket.subjects).repeat_interleave(scenes_each),
        torch.arange(bucket.subjects) * scenes_each,
        *(prompts, torch.tensor(neutral)),
    )
