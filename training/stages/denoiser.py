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

from training.data.batches import Batch, Batches, Emphasis, alphas_cumprod
from training.data.dataset import Examples
from training.networks.frozen_channels import bound_rows
from training.networks.identity_init import hold_gain
from training.stages.loop import Say, Schedule, train
from training.stages.text_pretraining import teach_colours

_MOST_WEIGHT: Final = 400.0
_AREAS: Final = 4
"""Areas per side whose mean error counts besides."""
_AFAR_SHARE: Final = 4.0
_TEXT_SHARE: Final = 0.1
"""Rate of the text encoder: at the denoiser's it would forget what it knows before that is of use."""

AT_FIRST: Final = Emphasis(settling=0.25, cleaning=0)
"""With fewer to settle the light's side, some start noise turned it, most of all where little of the wall is seen."""
AT_LAST: Final = Emphasis(settling=0.15, cleaning=0.25)
"""Without this stage walls kept 1.7 times the noise."""


@dataclass(frozen=True)
class Schedules:
    """Of the three stages in turn: the text encoder alone, both networks, both with the least noisy levels."""

    text: Schedule
    first: Schedule
    last: Schedule


def train_denoiser(
    unet: Any,
    text_encoder: Any,
    tokenizer: Any,
    pool: Sequence[Examples],
    schedules: Schedules,
    folder: Path,
    say: Say,
) -> None:
    """Train networks in place on encoded scenes.

    The UNet should begin as `lay_gain` and `lay_text_lane` leave it.
    """
    hold_gain(unet)
    learning = [weight for weight in unet.parameters() if weight.requires_grad]
    groups = [
        {"params": learning, "weight_decay": 0.0},
        {"params": list(text_encoder.parameters()), "share": _TEXT_SHARE},
    ]
    both = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    batches = Batches(pool, tokenizer)
    teach_colours(text_encoder, pool, batches.tokens, schedules.text, folder, say)
    alphas = alphas_cumprod().to(unet.device)
    bound = partial(bound_rows, unet, but=unet.up_blocks[-1].resnets[-1].conv2)

    def loss_at(step: int, emphasis: Emphasis) -> Tensor:
        return denoising_loss(unet, text_encoder, batches.draw(step, emphasis).to(unet.device), alphas)

    def stage(name: str, emphasis: Emphasis, schedule: Schedule, begins: int, checkpoints: Path) -> None:
        train(name, both, groups, lambda step: loss_at(begins + step, emphasis), schedule, checkpoints, say, bound)

    stage("denoiser", AT_FIRST, schedules.first, 0, folder / "denoiser")
    stage("denoiser, last noise", AT_LAST, schedules.last, schedules.first.steps, folder / "last_noise")


def denoising_loss(unet: Any, text_encoder: Any, batch: Batch, alphas: Tensor) -> Tensor:
    """Mean squared error of the noise, weighted as if the velocity were predicted, in detail and seen from afar.

    Where light comes from and what colour it has are differences of a few hundredths, at noise in which no single
    pixel tells them: only means over large areas do.
    """
    alpha = alphas[batch.timesteps][:, None, None, None]
    noisy = alpha.sqrt() * batch.latents + (1 - alpha).sqrt() * batch.noise
    texts = text_encoder(batch.tokens).last_hidden_state
    predicted = unet(torch.cat((noisy, batch.seen), dim=1), batch.timesteps, texts).sample
    weight = (1 / alpha).clamp(max=_MOST_WEIGHT)
    error = predicted - batch.noise
    afar = F.adaptive_avg_pool2d(error, _AREAS)
    return torch.as_tensor((weight * error.square()).mean() + _AFAR_SHARE * (weight * afar.square()).mean())
