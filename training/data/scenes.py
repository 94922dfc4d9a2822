"""Training scenes: a subject, light of a style from a side, and a prompt that names it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from models.ic_light.conditioning import composite_on_grey
from models.ic_light.params import LightSource
from training.data.lighting import sample_wall_colours, shade_subject, shade_wall, soft_clip
from training.data.lighting_styles import NEUTRAL, LightingStyle, sample_prompt, sample_style
from training.data.photos import Picture
from training.data.shapes import Colours, Field, as_float32
from training.data.subjects import Subject

_FAR_GLOW: Final = 0.3
"""Least light on the second colour of the neon backdrop."""


@dataclass(frozen=True)
class Scene:
    """One example: pictures of 8 bits, [height, width, 3] each.

    `foreground` is the subject on grey as a request's is, `background` the lit wall alone, `target` the relit picture;
    `neutral`: the prompt names no colour.
    """

    foreground: Picture
    background: Picture
    target: Picture
    prompt: str
    light: LightSource
    neutral: bool


def sample_scene(
    rng: np.random.Generator, subject: Subject, light: LightSource, style: LightingStyle | None = None
) -> Scene:
    """Light a subject, in a sampled style unless one is given; the prompt names the style."""
    style = style or sample_style(rng)
    height, width = subject.alpha.shape
    colours = as_float32(subject.picture) / np.float32(255)
    background = _background(rng, width, height, style, light)
    lit = soft_clip(colours * _light_factor(colours, subject.alpha, style, light))
    target = background + (lit - background) * subject.alpha[..., None]
    return Scene(
        foreground=_on_grey(subject),
        background=_levels(background),
        target=_levels(target),
        prompt=sample_prompt(rng, style, light),
        light=light,
        neutral=style is NEUTRAL,
    )


def _light_factor(colours: Colours, alpha: Field, style: LightingStyle, light: LightSource) -> Colours:
    factor = shade_subject(colours, alpha, light)[..., None]
    return factor * as_float32(style.light) * np.float32(style.level)


def _background(rng: np.random.Generator, width: int, height: int, style: LightingStyle, light: LightSource) -> Colours:
    wall = sample_wall_colours(rng, width, height, style, light)
    falling = shade_wall(rng, width, height, light)
    if style.backdrop == "neon":
        falling = np.maximum(falling, _FAR_GLOW)
    return soft_clip(wall * (np.float32(style.level) * falling)[..., None])


def _on_grey(subject: Subject) -> Picture:
    alpha = torch.from_numpy(subject.alpha)[..., None]
    return composite_on_grey(torch.from_numpy(subject.picture), alpha).numpy()


def _levels(colours: Colours) -> Picture:
    return np.rint(colours * 255).astype(np.uint8)
