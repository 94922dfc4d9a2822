"""The denoise loop of either pass (IC-Light specification sections 7 to 9, 13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from models.ic_light.sampling import BatchNoise, Noise
from models.ic_light.vae import LATENT_SCALE
from models.runtime.unet import TextContext, attend_to_text, evaluate, text_contexts, time_shifts

Predict = Callable[[Any, Tensor, Tensor, tuple[TextContext, ...]], Tensor]
"""(UNet, input, time shift, text contexts) -> predicted noise [rows, 4, h, w]."""
MAX_PIXELS: Final = 3072 * 3072
"""Pixels of a batch: those of the largest image served. Twelve images of the default size fit (section 13)."""
MAX_IMAGES: Final = 24
"""Images of a batch, two UNet rows each with guidance: channels-last convolution kernels fail beyond 63 rows."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of n images, one row per image.

    `cond_latents`: foreground latents [n, 4, h, w], or foreground and background latents [n, 8, h, w]. `positive`,
    `negative`: text embeddings [n, tokens, width]. `guidance`: classifier-free guidance scale, 1 for none.
    """

    cond_latents: Tensor
    positive: Tensor
    negative: Tensor
    guidance: float

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on."""
        return self.guidance > 1

    @property
    def texts(self) -> Tensor:
        """Text embeddings of the UNet's batch: with guidance the negative rows, then the positive ones."""
        return torch.cat((self.negative, self.positive)) if self.guided else self.positive

    def split(self, size: int) -> list[Conditions]:
        """The same conditions in groups of at most `size` images."""
        parts = (torch.split(part, size) for part in (self.cond_latents, self.positive, self.negative))
        groups = zip(*parts, strict=True)
        return [Conditions(cond, positive, negative, self.guidance) for cond, positive, negative in groups]


def predict_noise(unet: Any, batch: Tensor, shift: Tensor, contexts: tuple[TextContext, ...]) -> Tensor:
    """One UNet evaluation; a `Predict`."""
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
    """Denoise latents [n, 4, h, w] over the scheduler's remaining steps.

    `on_step` is called after each step; its exceptions propagate.
    """
    height, width = latents.shape[2:]
    size = max_batch(LATENT_SCALE * width, LATENT_SCALE * height)
    groups = [(group, text_contexts(unet, group.texts)) for group in conditions.split(size)]
    timesteps = scheduler.timesteps[scheduler.begin_index :]
    for timestep, shift in zip(timesteps, time_shifts(unet, timesteps), strict=True):
        parts = zip(torch.split(latents, size), groups, strict=True)
        epsilon = torch.cat(
            [_guided(group, predict(unet, _batch(part, group), shift, contexts)) for part, (group, contexts) in parts]
        )
        # Float32 whatever the latents' dtype; sampled for the last step too, which multiplies it by 0. One sample for
        # all groups, so that the grouping does not change the images.
        fresh = noise.draw((height, width), torch.float32)
        latents = scheduler.step(epsilon, timestep, latents, variance_noise=fresh).prev_sample
        on_step()
    return latents


def unet_input(latents: Tensor, cond_latents: Tensor) -> Tensor:
    """Concatenate along the channels: noisy latents first, then the conditions."""
    return torch.cat((latents, cond_latents), dim=1)


def _batch(latents: Tensor, conditions: Conditions) -> Tensor:
    """The UNet's input: with guidance both branches in one batch, negative rows first."""
    batch = unet_input(latents, conditions.cond_latents)
    # Guidance is over the text only: both branches have the same conditioning latents.
    return batch.repeat(2, 1, 1, 1) if conditions.guided else batch


def _guided(conditions: Conditions, predicted: Tensor) -> Tensor:
    if not conditions.guided:
        return predicted
    negative, positive = predicted.chunk(2)
    return negative + conditions.guidance * (positive - negative)


def max_batch(width: int, height: int) -> int:
    """Images of `width` x `height` px that go through the UNet in one batch, at least one."""
    return max(1, min(MAX_IMAGES, MAX_PIXELS // (width * height)))
