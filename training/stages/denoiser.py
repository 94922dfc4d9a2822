"""Training of the denoiser and the text encoder, together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.batches import Batch, Batches, TimestepShares, alphas_cumprod
from training.data.dataset import Examples
from training.networks.frozen_channels import clip_row_norms
from training.networks.identity_init import freeze_identity_init
from training.stages.loop import Logger, Schedule, train
from training.stages.text_pretraining import pretrain_colour_states

_MAX_WEIGHT: Final = 400.0
_AREAS: Final = 4
"""Grid of areas, per side, whose mean error is a second loss."""
_COARSE_LOSS_WEIGHT: Final = 4.0
_TEXT_SHARE: Final = 0.1
"""Learning rate of the text encoder relative to the denoiser's: at the same rate it forgets its pretraining."""

FIRST_STAGE: Final = TimestepShares(light_side=0.25, low_noise=0)
"""With a smaller share of the light's side, some initial noise turned it, mostly where little wall is visible."""
LAST_STAGE: Final = TimestepShares(light_side=0.15, low_noise=0.25)
"""Without this stage, walls keep 1.7 times the noise."""


@dataclass(frozen=True)
class Schedules:
    """The three stages in turn: the text encoder alone, both networks, both with more of the least noisy levels."""

    text: Schedule
    first: Schedule
    last: Schedule


def train_denoiser(
    unet: Any,
    text_encoder: Any,
    tokenizer: Any,
    dataset: Sequence[Examples],
    schedules: Schedules,
    folder: Path,
    log: Logger,
) -> None:
    """Train both networks in place on encoded scenes.

    The UNet has to be initialised by `init_identity` and `init_text_bypass`.
    """
    freeze_identity_init(unet)
    trainable = [weight for weight in unet.parameters() if weight.requires_grad]
    groups = [
        {"params": trainable, "weight_decay": 0.0},
        {"params": list(text_encoder.parameters()), "share": _TEXT_SHARE},
    ]
    both = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    batches = Batches(dataset, tokenizer)
    pretrain_colour_states(text_encoder, dataset, batches.tokens, schedules.text, folder, log)
    alphas = alphas_cumprod().to(unet.device)
    clip = partial(clip_row_norms, unet, excluded=unet.up_blocks[-1].resnets[-1].conv2)

    def loss_at(step: int, shares: TimestepShares) -> Tensor:
        return denoising_loss(unet, text_encoder, batches.sample(step, shares).to(unet.device), alphas)

    def stage(name: str, shares: TimestepShares, schedule: Schedule, begins: int, checkpoints: Path) -> None:
        train(name, both, groups, lambda step: loss_at(begins + step, shares), schedule, checkpoints, log, clip)

    stage("denoiser", FIRST_STAGE, schedules.first, 0, folder / "denoiser")
    stage("denoiser, last noise", LAST_STAGE, schedules.last, schedules.first.steps, folder / "last_noise")


def denoising_loss(unet: Any, text_encoder: Any, batch: Batch, alphas: Tensor) -> Tensor:
    """Mean squared error of the noise, weighted like a velocity prediction, per latent and per area.

    The side and colour of a light are differences of a few hundredths: at high noise levels no single latent shows
    them, only means over large areas do.
    """
    alpha = alphas[batch.timesteps][:, None, None, None]
    noisy = alpha.sqrt() * batch.latents + (1 - alpha).sqrt() * batch.noise
    texts = text_encoder(batch.tokens).last_hidden_state
    predicted = unet(torch.cat((noisy, batch.cond_latents), dim=1), batch.timesteps, texts).sample
    weight = (1 / alpha).clamp(max=_MAX_WEIGHT)
    error = predicted - batch.noise
    coarse = F.adaptive_avg_pool2d(error, _AREAS)
    return torch.as_tensor((weight * error.square()).mean() + _COARSE_LOSS_WEIGHT * (weight * coarse.square()).mean())
