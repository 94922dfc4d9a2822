"""The denoise loop of either pass (IC-Light specification sections 7 to 9, 13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from models.ic_light.batches import pictures_together
from models.ic_light.noise import Noise

_LATENT_SIDE: Final = 8
"""Pixels that one latent pixel stands for, along each side."""


@dataclass(frozen=True)
class Conditions:
    """What the pictures of a batch are drawn from, one row per picture.

    `seen` is [n, 4, h, w], latents of the foreground, or [n, 8, h, w] with those of the background behind them;
    `positive` and `negative` are [n, tokens, width]; `guidance` is the factor of classifier-free guidance, of which 1
    means none.
    """

    seen: Tensor
    positive: Tensor
    negative: Tensor
    guidance: float

    @property
    def guided(self) -> bool:
        """Whether the negative text takes part."""
        return self.guidance > 1

    def split(self, size: int) -> list[Conditions]:
        """The same in groups of at most `size` pictures."""
        rows = zip(*(torch.split(part, size) for part in (self.seen, self.positive, self.negative)), strict=True)
        return [Conditions(seen, positive, negative, self.guidance) for seen, positive, negative in rows]


def denoise(
    unet: Any, scheduler: Any, latents: Tensor, conditions: Conditions, noise: Noise, on_step: Callable[[], None]
) -> Tensor:
    """Walk the scheduler's remaining steps from noisy latents [n, 4, h, w] to clean ones.

    `on_step` is called after each; what it raises passes through.
    """
    height, width = latents.shape[2:]
    together = pictures_together(_LATENT_SIDE * width, _LATENT_SIDE * height)
    groups = conditions.split(together)
    for timestep in scheduler.timesteps[scheduler.begin_index :]:
        parts = zip(torch.split(latents, together), groups, strict=True)
        epsilon = torch.cat([_predict(unet, part, timestep, group) for part, group in parts])
        # Float32 whatever the latents are; drawn for the last step too, which multiplies it by zero. One draw is for
        # all groups, so that grouping changes no picture.
        fresh = noise.draw((height, width), torch.float32)
        latents = scheduler.step(epsilon, timestep, latents, variance_noise=fresh).prev_sample
        on_step()
    return latents


def unet_input(latents: Tensor, seen: Tensor) -> Tensor:
    """Put what the UNet sees behind the noisy latents, channel-wise."""
    return torch.cat((latents, seen), dim=1)


def _predict(unet: Any, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
    """The noise in `latents`: with guidance both branches in one batch, the negative rows before the positive ones."""
    batch = unet_input(latents, conditions.seen)
    if not conditions.guided:
        return _evaluate(unet, batch, timestep, conditions.positive)
    # Guidance is over the text alone: both halves see the foreground.
    text = torch.cat((conditions.negative, conditions.positive))
    negative, positive = _evaluate(unet, batch.repeat(2, 1, 1, 1), timestep, text).chunk(2)
    return negative + conditions.guidance * (positive - negative)


def _evaluate(unet: Any, batch: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    return torch.as_tensor(unet(batch, timestep, encoder_hidden_states=text, return_dict=False)[0])
