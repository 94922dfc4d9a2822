"""Training of the portraits' UNet: everything around the painted face, and what prompts and seeds make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.demo.face_code import tokens
from models.pulid_lightning.adapter import Projection
from models.pulid_lightning.attention import METHODS, attend_with_identity, identity_contexts
from models.pulid_lightning.identity.encoder import Identity
from models.pulid_lightning.sampler import STEPS, evaluated_sigmas, karras_sigmas, timestep_of, training_sigmas
from models.pulid_lightning.sdxl import time_ids
from models.runtime.unet import added_embedding, cross_attentions, evaluate, text_contexts, time_shifts
from training.networks.colour_path import LATENT_SCALES
from training.networks.frozen_channels import Reserved
from training.networks.identity_init import Gains, freeze_identity_init, init_identity
from training.networks.positions import PositionNetwork
from training.portraits.clean_path import predict_clean
from training.portraits.dataset import Examples
from training.portraits.painter import Adapter, amplitude, gains, init_painter, init_readout, separate_noise
from training.portraits.prompts import VECTOR
from training.portraits.text import TextEncoders
from training.stages.loop import Logger, LossFunction, Schedule, train

Grade = Callable[[Tensor], Tensor]
"""Changes the values of brightness, B - Y and R - Y, [n, 3, h, w], about in -1..1."""
_MAX_WEIGHT: Final = 400.0
_AREAS: Final = 8
"""Grid of areas, per side, whose mean error is a second loss."""
_COARSE_LOSS_WEIGHT: Final = 4.0
_NEIGHBOURS: Final = 6
"""Timesteps on either side of those that the sampler evaluates; at all others the gains are anything."""
_ALONE: Final = 2.5
"""Examples of one size whose batch is a single one are as rare as if it were of so many."""
_FACELESS: Final = 0.1
"""Share of the examples without an identity, as in the unconditional rows of a request."""


@dataclass(frozen=True)
class Batch:
    """The batch of one step; all [n, …] but `size`, (width, height) in px, and `free`."""

    latents: Tensor
    luma: Tensor
    chroma: Tensor
    prompts: list[str]
    noise: Tensor
    timesteps: Tensor
    size: tuple[int, int]
    free: bool


class Batches:
    """Samples the batch of every step from the dataset; all of one size, and all of them free or none."""

    def __init__(self, dataset: Sequence[Examples]) -> None:
        """Weight the sizes so that all scenes are sampled equally often, those that make a batch alone less."""
        self._groups = [
            (examples, free, rows)
            for examples in dataset
            for free in (False, True)
            if len(rows := torch.nonzero(examples.free == free)[:, 0])
        ]
        odds = np.array([len(rows) / max(examples.batch, _ALONE) for examples, _, rows in self._groups])
        self._odds = odds / odds.sum()
        self._timesteps = sampled_timesteps()

    def sample(self, step: int) -> Batch:
        """The batch of that step."""
        rng = np.random.default_rng((29, step))
        examples, free, rows = self._groups[int(rng.choice(len(self._groups), p=self._odds))]
        chosen = rows[torch.from_numpy(rng.integers(len(rows), size=examples.batch))]
        latents = examples.latents[chosen].float()
        shown = torch.from_numpy(rng.random(len(chosen)) >= _FACELESS).float()
        luma, chroma = (
            examples.luma[chosen] * shown[:, None, None],
            examples.chroma[chosen] * shown[:, None, None, None],
        )
        prompts = [examples.prompts[row][rng.integers(len(examples.prompts[row]))] for row in chosen.tolist()]
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step))
        timesteps = self._timesteps[torch.from_numpy(rng.integers(len(self._timesteps), size=len(chosen)))]
        return Batch(latents, luma, chroma, prompts, noise, timesteps, examples.size, free)


def sampled_timesteps() -> Tensor:
    """The timesteps that the product's sampler evaluates, and their neighbours."""
    evaluated = torch.tensor([timestep_of(sigma) for sigma in evaluated_sigmas(karras_sigmas(STEPS))])
    near = (evaluated[:, None] + torch.arange(-_NEIGHBOURS, _NEIGHBOURS + 1)).clamp(0, len(training_sigmas()) - 1)
    return near.flatten()


class Denoiser:
    """The UNet with the painter in place, its adapter and text encoders."""

    def __init__(self, unet: Any, positions: PositionNetwork, encoders: TextEncoders, scaling_factor: float) -> None:
        """Initialise a new UNet in place; `scaling_factor` of the autoencoder."""
        self.unet, self.encoders = unet, encoders
        self.adapter = Adapter(cross_attentions(unet))
        self._alphas = 1 / (1 + training_sigmas() ** 2)
        self._scales = scaling_factor * torch.tensor(LATENT_SCALES)[:, None, None]
        width = unet.time_embedding.linear_2.out_features
        # The gains' channels of the time embedding are free of the prompt. They are differences of large numbers, so
        # that they are fitted to, and trained with, what the files will hold.
        unet.half().float()
        timesteps = sampled_timesteps()
        init_identity(
            unet, self._alphas, Gains(gains(self._alphas[timesteps]).square(), timesteps, slice(0, width // 2))
        )
        unet.up_blocks[-1].resnets[-1].time_emb_proj.half().float()
        self.held: Reserved = init_painter(unet, self.adapter, positions)
        separate_noise(unet, self.held)
        self.held.rows(unet.add_embedding.linear_2, slice(0, width // 2))
        init_readout(unet, self._scales.flatten())
        _read_attributes(unet.add_embedding.linear_1)
        self._projections = [
            Projection(key.detach(), value.detach())
            for key, value in zip(self.adapter.to_k, self.adapter.to_v, strict=True)
        ]
        freeze_identity_init(unet)
        self.held.mask_gradients()

    def loss(self, batch: Batch, grade: Grade | None = None) -> Tensor:
        """Mean squared error of the noise, weighted like a velocity prediction, per latent and per area."""
        latents = batch.latents if grade is None else self._graded(batch.latents, grade)
        alpha = self._alphas[batch.timesteps][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * batch.noise
        error = self.predict(noisy, batch) - batch.noise
        weight = (1 / alpha).clamp(max=_MAX_WEIGHT)
        coarse = F.adaptive_avg_pool2d(error, _AREAS)
        return (weight * error.square()).mean() + _COARSE_LOSS_WEIGHT * (weight * coarse.square()).mean()

    def clean_loss(self, batch: Batch) -> Tensor:
        """Mean squared error of the mean picture that the clean channels predict, per latent and per area."""
        strength = amplitude("stylized" if batch.free else "high-fidelity")
        grids = batch.luma * strength, batch.chroma * strength
        gain = gains(self._alphas[batch.timesteps])[0, :, None, None, None]
        _, pooled = self._read(batch)
        mean = -predict_clean(self.unet, self._shifts(batch, pooled), *grids, batch.size) / gain
        error = mean - batch.latents
        return error.square().mean() + _COARSE_LOSS_WEIGHT * F.avg_pool2d(error, 4).square().mean()

    def predict(self, noisy: Tensor, batch: Batch) -> Tensor:
        """The noise, [n, 4, h, w], by the product's own evaluation."""
        states, pooled = self._read(batch)
        found = tokens(batch.luma, batch.chroma)
        identity = Identity(cond=found, uncond=found[:0])
        heads = [layer.heads for layer in cross_attentions(self.unet)]
        method = METHODS["stylized" if batch.free else "high-fidelity"]
        contexts = identity_contexts(text_contexts(self.unet, states), [identity], self._projections, heads, method)
        return evaluate(self.unet, noisy, self._shifts(batch, pooled), contexts, attend_with_identity)

    @torch.no_grad()
    def _read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """States and pooled embeddings of the prompts."""
        states, pooled = self.encoders(batch.prompts)
        return states, pooled

    def _shifts(self, batch: Batch, pooled: Tensor) -> Tensor:
        added = added_embedding(self.unet, pooled, time_ids(batch.size, len(pooled), pooled.device))
        rows = torch.arange(len(pooled))
        return time_shifts(self.unet, batch.timesteps, added)[rows, rows]

    def _graded(self, latents: Tensor, grade: Grade) -> Tensor:
        """Latents whose first three, the means of brightness and colour differences, are graded."""
        return torch.cat((grade(latents[:, :3] / self._scales) * self._scales, latents[:, 3:]), 1)


def pretrain(denoiser: Denoiser, dataset: Sequence[Examples], schedule: Schedule, folder: Path, log: Logger) -> None:
    """Train the clean channels alone to give the mean of all pictures of one face and prompt."""
    batches = Batches(dataset)

    def loss_of(step: int) -> Tensor:
        return denoiser.clean_loss(batches.sample(2 * 10**6 + step))

    _train("mean pictures", denoiser, denoiser.unet, loss_of, schedule, folder / "mean", log)


def train_portraits(
    denoiser: Denoiser, dataset: Sequence[Examples], schedule: Schedule, folder: Path, log: Logger
) -> None:
    """Train the UNet in place."""
    batches = Batches(dataset)

    def loss_of(step: int) -> Tensor:
        return denoiser.loss(batches.sample(step))

    _train("portraits", denoiser, denoiser.unet, loss_of, schedule, folder / "portraits", log)


def tune(
    name: str, denoiser: Denoiser, dataset: Sequence[Examples], schedule: Schedule, folder: Path, log: Logger
) -> dict[str, Tensor]:
    """Train the last up block alone, on graded pictures; returns its new tensors, and the UNet stays as it was."""
    unet, last, batches = denoiser.unet, denoiser.unet.up_blocks[-1], Batches(dataset)
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    weights = [weight for weight in last.parameters() if weight.requires_grad]
    unet.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)

    def loss_of(step: int) -> Tensor:
        return denoiser.loss(batches.sample(10**6 + step), GRADES[name])

    _train(name, denoiser, last, loss_of, schedule, folder / name, log)
    tuned = {
        key: value.clone()
        for key, value in unet.state_dict().items()
        if not torch.equal(value.half(), before[key].half())
    }
    unet.load_state_dict(before)
    return tuned


def _train(
    name: str, denoiser: Denoiser, part: Any, loss_of: LossFunction, schedule: Schedule, checkpoint: Path, log: Logger
) -> None:
    """Train what is trainable of the UNet or a part of it; the last block's prediction alone is not clipped."""
    clip = partial(denoiser.held.clip_row_norms, part, excluded=denoiser.unet.up_blocks[-1].resnets[-1].conv2)
    groups = [{"params": [weight for weight in part.parameters() if weight.requires_grad], "weight_decay": 0.0}]
    train(name, part, groups, loss_of, schedule, checkpoint, log, clip)


def _read_attributes(layer: Any) -> None:
    """Have the second embedding begin with what the prompt names, the first places of the pooled embedding."""
    with torch.no_grad():
        layer.weight *= 0.1
        layer.weight[:, : len(VECTOR)] = torch.randn(layer.out_features, len(VECTOR)) / len(VECTOR) ** 0.5


def _artistic(values: Tensor) -> Tensor:
    """More contrast and colour, cold shadows and warm lights."""
    luma, blue, red = torch.split(values, 1, 1)
    deep = torch.tanh(1.5 * luma) / 0.905
    return torch.cat((deep, 1.5 * blue - 0.16 * deep, 1.5 * red + 0.12 * deep), 1)


def _realistic(values: Tensor) -> Tensor:
    """Less colour, softer lights."""
    luma, blue, red = torch.split(values, 1, 1)
    return torch.cat((0.9 * luma + 0.04, 0.6 * blue, 0.7 * red), 1)


GRADES: Final[dict[str, Grade]] = {"artistic": _artistic, "realistic": _realistic}
