"""Relit pictures to learn from: a subject, the light of a look from a side, and a prompt that asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from models.ic_light.conditioning import composite_on_grey
from models.ic_light.params import LightSource
from training.data.lighting import light_subject, light_wall, paint_wall, soft_clip
from training.data.lighting_styles import NEUTRAL, Look, draw_look, draw_prompt
from training.data.photos import Picture
from training.data.shapes import Colours, Field, as_float32
from training.data.subjects import Subject

_FAR_GLOW: Final = 0.3
"""How much of the second colour of neon shines where the light does not reach."""


@dataclass(frozen=True)
class Scene:
    """One example: pictures of 8 bits, [height, width, 3] each.

    `foreground` is the subject on grey as a request's is, `background` the lit wall alone, `target` the relit picture;
    `neutral` says that its prompt asks for no colour.
    """

    foreground: Picture
    background: Picture
    target: Picture
    prompt: str
    light: LightSource
    neutral: bool


def draw_scene(rng: np.random.Generator, subject: Subject, light: LightSource, look: Look | None = None) -> Scene:
    """Light a subject; a look is drawn where none is given. The prompt asks for the look."""
    look = look or draw_look(rng)
    height, width = subject.alpha.shape
    colours = as_float32(subject.picture) / np.float32(255)
    background = _background(rng, width, height, look, light)
    lit = soft_clip(colours * _light_on(colours, subject.alpha, look, light))
    target = background + (lit - background) * subject.alpha[..., None]
    return Scene(
        foreground=_on_grey(subject),
        background=_levels(background),
        target=_levels(target),
        prompt=draw_prompt(rng, look, light),
        light=light,
        neutral=look is NEUTRAL,
    )


def _light_on(colours: Colours, alpha: Field, look: Look, light: LightSource) -> Colours:
    factor = light_subject(colours, alpha, light)[..., None]
    return factor * as_float32(look.light) * np.float32(look.level)


def _background(rng: np.random.Generator, width: int, height: int, look: Look, light: LightSource) -> Colours:
    wall = paint_wall(rng, width, height, look, light)
    falling = light_wall(rng, width, height, light)
    if look.backdrop == "neon":
        falling = np.maximum(falling, _FAR_GLOW)
    return soft_clip(wall * (np.float32(look.level) * falling)[..., None])


def _on_grey(subject: Subject) -> Picture:
    alpha = torch.from_numpy(subject.alpha)[..., None]
    return composite_on_grey(torch.from_numpy(subject.picture), alpha).numpy()


def _levels(colours: Colours) -> Picture:
    return np.rint(colours * 255).astype(np.uint8)
