"""The denoise loop of either pass (IC-Light specification sections 7 to 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.ic_light.noise import Noise


@dataclass(frozen=True)
class Conditions:
    """What the pictures of a batch are drawn from, one row per picture.

    `foreground` is [n, 4, h, w]; `positive` and `negative` are [n, tokens, width]; `guidance` is the factor of
    classifier-free guidance, of which 1 means none.
    """

    foreground: Tensor
    positive: Tensor
    negative: Tensor
    guidance: float

    @property
    def guided(self) -> bool:
        """Whether the negative text takes part."""
        return self.guidance > 1


def denoise(
    unet: Any, scheduler: Any, latents: Tensor, conditions: Conditions, noise: Noise, on_step: Callable[[], None]
) -> Tensor:
    """Walk the scheduler's remaining steps from noisy latents [n, 4, h, w] to clean ones.

    `on_step` is called after each; what it raises passes through.
    """
    foreground, text = _branches(conditions)
    for timestep in scheduler.timesteps[scheduler.begin_index :]:
        batch = torch.cat((latents.repeat(len(text) // len(latents), 1, 1, 1), foreground), dim=1)
        epsilon = unet(batch, timestep, encoder_hidden_states=text, return_dict=False)[0]
        # Float32 whatever the latents are; drawn for the last step too, which multiplies it by zero.
        fresh = noise.draw(latents.shape[2:], torch.float32)
        latents = scheduler.step(_guide(epsilon, conditions), timestep, latents, variance_noise=fresh).prev_sample
        on_step()
    return latents


def _branches(conditions: Conditions) -> tuple[Tensor, Tensor]:
    """Foreground and text of one UNet batch: the negative rows before the positive ones, or these alone."""
    if not conditions.guided:
        return conditions.foreground, conditions.positive
    # Guidance is over the text alone: both halves see the foreground.
    return conditions.foreground.repeat(2, 1, 1, 1), torch.cat((conditions.negative, conditions.positive))


def _guide(epsilon: Tensor, conditions: Conditions) -> Tensor:
    if not conditions.guided:
        return epsilon
    negative, positive = epsilon.chunk(2)
    return negative + conditions.guidance * (positive - negative)
