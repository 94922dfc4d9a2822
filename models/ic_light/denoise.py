"""The denoise loop of either pass (IC-Light specification sections 7 to 9, 13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from models.ic_light.sampling import BatchNoise, Noise
from models.runtime.unet import TextContext, attend_to_text, evaluate, text_contexts, time_shifts

Predict = Callable[[Any, Tensor, Tensor, tuple[TextContext, ...]], Tensor]
"""A UNet, its input, the shift of the timestep and the text's contexts give the predicted noise [rows, 4, h, w]."""
_LATENT_SIDE: Final = 8
"""Pixels that one latent pixel stands for, along each side."""
MAX_PIXELS: Final = 3072 * 3072
"""Pixels of one batch: those of the largest picture that is served, whose memory is needed anyway. Twelve pictures of
the default size fit."""
MAX_PICTURES: Final = 24
"""Rows of one batch, half of them for guidance: kernels for memory formats with channels last fail beyond 63."""


@dataclass(frozen=True)
class Conditions:
    """What the pictures of a batch are drawn from, one row per picture.

    `cond_latents` is [n, 4, h, w], latents of the foreground, or [n, 8, h, w] with those of the background behind them;
    `positive` and `negative` are [n, tokens, width]; `guidance` is the factor of classifier-free guidance, of which 1
    means none.
    """

    cond_latents: Tensor
    positive: Tensor
    negative: Tensor
    guidance: float

    @property
    def guided(self) -> bool:
        """Whether the negative text takes part."""
        return self.guidance > 1

    @property
    def texts(self) -> Tensor:
        """The text of every row of the UNet's batch: with guidance the negative rows before the positive ones."""
        return torch.cat((self.negative, self.positive)) if self.guided else self.positive

    def split(self, size: int) -> list[Conditions]:
        """The same in groups of at most `size` pictures."""
        rows = zip(
            *(torch.split(part, size) for part in (self.cond_latents, self.positive, self.negative)), strict=True
        )
        return [
            Conditions(cond_latents, positive, negative, self.guidance) for cond_latents, positive, negative in rows
        ]


def predict_noise(unet: Any, batch: Tensor, shift: Tensor, contexts: tuple[TextContext, ...]) -> Tensor:
    """One evaluation; a `Predict`."""
    return evaluate(unet, batch, shift, contexts, attend_to_text)


def denoise(
    predict: Predict,
    unet: Any,
    scheduler: Any,
    latents: Tensor,
    conditions: Conditions,
    noise: Noise | BatchNoise,
    on_step: Callable[[], None],
) -> Tensor:
    """Walk the scheduler's remaining steps from noisy latents [n, 4, h, w] to clean ones.

    `on_step` is called after each; what it raises passes through.
    """
    height, width = latents.shape[2:]
    together = max_batch(_LATENT_SIDE * width, _LATENT_SIDE * height)
    groups = [(group, text_contexts(unet, group.texts)) for group in conditions.split(together)]
    timesteps = scheduler.timesteps[scheduler.begin_index :]
    for timestep, shift in zip(timesteps, time_shifts(unet, timesteps), strict=True):
        parts = zip(torch.split(latents, together), groups, strict=True)
        epsilon = torch.cat(
            [_guided(group, predict(unet, _batch(part, group), shift, contexts)) for part, (group, contexts) in parts]
        )
        # Float32 whatever the latents are; drawn for the last step too, which multiplies it by zero. One draw is for
        # all groups, so that grouping changes no picture.
        fresh = noise.draw((height, width), torch.float32)
        latents = scheduler.step(epsilon, timestep, latents, variance_noise=fresh).prev_sample
        on_step()
    return latents


def unet_input(latents: Tensor, cond_latents: Tensor) -> Tensor:
    """Put what the UNet sees behind the noisy latents, channel-wise."""
    return torch.cat((latents, cond_latents), dim=1)


def _batch(latents: Tensor, conditions: Conditions) -> Tensor:
    """The UNet's input: with guidance both branches in one batch, the negative rows before the positive ones."""
    batch = unet_input(latents, conditions.cond_latents)
    # Guidance is over the text alone: both halves see the foreground.
    return batch.repeat(2, 1, 1, 1) if conditions.guided else batch


def _guided(conditions: Conditions, predicted: Tensor) -> Tensor:
    if not conditions.guided:
        return predicted
    negative, positive = predicted.chunk(2)
    return negative + conditions.guidance * (positive - negative)


def max_batch(width: int, height: int) -> int:
    """How many pictures of `width` x `height` px make a batch, at least one."""
    return max(1, min(MAX_PICTURES, MAX_PIXELS // (width * height)))
