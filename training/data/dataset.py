"""The denoiser's examples: scenes drawn once, encoded once, kept in half precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from models.ic_light.params import LightSource
from models.ic_light.vae import encode_pictures
from training.data.scenes import draw_scene
from training.data.subjects import draw_subject
from training.stages.loop import Say

_SIDES: Final[tuple[LightSource, ...]] = tuple(light for light in get_args(LightSource) if light != "None")
_WITH_BACKGROUND: Final = 0.25
"""Share of the scenes whose background is shown to the UNet."""


@dataclass(frozen=True)
class Group:
    """How many subjects of one size, how many scenes are drawn together, and the size in px."""

    subjects: int
    batch: int
    width: int
    height: int


GROUPS: Final = (
    Group(700, 16, 192, 192),
    Group(700, 10, 256, 256),
    Group(300, 8, 256, 320),
    Group(160, 6, 320, 384),
    Group(140, 2, 512, 640),
)


@dataclass(frozen=True)
class Examples:
    """All scenes of one size.

    `targets` and `backgrounds` are latents [n, 4, h, w], the latter zero where none is shown; `foregrounds` [m, 4, h,
    w], of which `subjects` [n] names each scene's; `frontal` [m] the scene of each subject that is lit from the front;
    `prompts` what each scene's text says, `neutral` whether that says nothing of light or colour.
    """

    batch: int
    targets: Tensor
    backgrounds: Tensor
    foregrounds: Tensor
    subjects: Tensor
    frontal: Tensor
    prompts: list[str]
    neutral: Tensor


def encode_pool(vae: Any, groups: Sequence[Group], scenes_each: int, file: Path, say: Say) -> list[Examples]:
    """Draw and encode `scenes_each` scenes of every subject; read from `file` if it is there.

    The first of them is lit from the front, the others each from another side.
    """
    if not file.is_file():
        total = sum(group.subjects for group in groups)
        with tqdm(total=total, desc="scenes", mininterval=5) as bar, torch.inference_mode():
            pool = [vars(_encode_group(vae, number, group, scenes_each, bar)) for number, group in enumerate(groups)]
        torch.save(pool, file)
        say(f"scenes: {total} subjects, {total * scenes_each} scenes")
    return [Examples(**examples) for examples in torch.load(file, weights_only=True)]


def _encode_group(vae: Any, number: int, group: Group, scenes_each: int, bar: Any) -> Examples:
    foregrounds, targets, backgrounds, prompts, neutral = [], [], [], [], []
    for index in range(group.subjects):
        rng = np.random.default_rng((11, number, index))
        subject = draw_subject(rng, group.width, group.height)
        sides = rng.permutation(len(_SIDES))[: scenes_each - 1]
        scenes = [draw_scene(rng, subject, light) for light in ("None", *(_SIDES[side] for side in sides))]
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
        *(group.batch, torch.cat(targets), torch.cat(backgrounds), torch.cat(foregrounds)),
        torch.arange(group.subjects).repeat_interleave(scenes_each),
        torch.arange(group.subjects) * scenes_each,
        *(prompts, torch.tensor(neutral)),
    )
