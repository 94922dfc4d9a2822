"""The denoiser's batches: scenes, prompts and timesteps, sampled for every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from models.ic_light.params import Params
from models.ic_light.prompt import SEPARATOR, tokenise
from models.ic_light.sampling import full_range, make_scheduler, partial_range
from training.data.dataset import Examples

_NEGATIVE_SHARE: Final = 0.2
"""Share of the neutral scenes that get a negative prompt, which guidance subtracts."""
_KARRAS_RHO: Final = 7
_KARRAS_SHARE: Final = 0.5
"""Share of the noise levels sampled with the sampler's spacing; the others are uniform over the schedule."""
_LIGHT_SIDE_FROM: Final = 600
"""Down to this timestep the side of the light is decided."""
_LOW_NOISE_BELOW: Final = 60
"""Below this timestep the last noise is removed: what is missed there stays in the picture."""


@dataclass(frozen=True)
class TimestepShares:
    """Shares of the timesteps sampled from the range of one task alone; the others are sampled from all."""

    light_side: float
    low_noise: float


@dataclass(frozen=True)
class Batch:
    """The batch of one step; all [n, …]. `cond_latents` [n, 8, h, w] are those of foreground and background."""

    latents: Tensor
    cond_latents: Tensor
    tokens: Tensor
    noise: Tensor
    timesteps: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on `device`."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


def alphas_cumprod() -> Tensor:
    """Share of the signal's variance at every timestep, as the sampler has it: [1000]."""
    return torch.as_tensor(make_scheduler(full_range(1), torch.device("cpu")).alphas_cumprod)


def last_frontal_timestep() -> int:
    """The least noisy timestep that is trained on frontal light alone.

    Only requests without a light source pass the noisiest timesteps; they start from pure noise, in which the denoiser
    would otherwise detect some side. Requests with a light source start below; a smaller margin would make it ignore
    theirs.
    """
    defaults = {name: Params.model_fields[name].default for name in ("steps", "lowres_denoise")}
    scheduler = make_scheduler(partial_range(defaults["steps"], defaults["lowres_denoise"]), torch.device("cpu"))
    return (int(scheduler.timesteps[scheduler.begin_index]) + len(scheduler.alphas_cumprod)) // 2


class Batches:
    """Samples the batch of every step from the dataset; `tokens` are its tokenised prompts, [n, 77] for each size."""

    def __init__(self, dataset: Sequence[Examples], tokenizer: Any) -> None:
        """Tokenise all prompts."""
        self._dataset = dataset
        self._tokenizer = tokenizer
        self.tokens = [torch.cat([self._tokenise(prompt) for prompt in examples.prompts]) for examples in dataset]
        # Sizes are weighted so that all scenes are sampled equally often.
        batches = np.array([len(examples.targets) / examples.batch for examples in dataset])
        self._odds = batches / batches.sum()
        alphas = alphas_cumprod()
        self._sigmas = ((1 - alphas) / alphas).sqrt()
        self._frontal_from = last_frontal_timestep()

    def sample(self, step: int, shares: TimestepShares) -> Batch:
        """The batch of that step."""
        rng = np.random.default_rng((13, step))
        which = int(rng.choice(len(self._dataset), p=self._odds))
        examples = self._dataset[which]
        rows = torch.from_numpy(rng.integers(len(examples.targets), size=examples.batch))
        timesteps = self._timesteps(rng, len(rows), shares)
        rows = torch.where(timesteps >= self._frontal_from, examples.frontal[examples.subjects[rows]], rows)
        tokens = self.tokens[which][rows]
        for row in np.flatnonzero(examples.neutral[rows].numpy() & (rng.random(len(rows)) < _NEGATIVE_SHARE)):
            tokens[row] = self._tokenise(negative_prompt(rng))[0]
        latents = examples.targets[rows].float()
        cond_latents = torch.cat(
            (examples.foregrounds[examples.subjects[rows]], examples.backgrounds[rows]), dim=1
        ).float()
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step))
        return Batch(latents, cond_latents, tokens, noise, timesteps)

    def _timesteps(self, rng: np.random.Generator, count: int, shares: TimestepShares) -> Tensor:
        even = torch.from_numpy(rng.random(count))
        least, most = self._sigmas[0] ** (1 / _KARRAS_RHO), self._sigmas[-1] ** (1 / _KARRAS_RHO)
        karras = (least + even * (most - least)) ** _KARRAS_RHO
        spaced = torch.searchsorted(self._sigmas, karras.float()).clamp(max=len(self._sigmas) - 1)
        drawn = torch.where(torch.from_numpy(rng.random(count) < _KARRAS_SHARE), spaced, (even * 1000).long())
        light_side = torch.from_numpy(rng.integers(_LIGHT_SIDE_FROM, self._frontal_from, size=count))
        task = torch.from_numpy(rng.random(count))
        drawn = torch.where(task < shares.light_side, light_side, drawn)
        return torch.where(task >= 1 - shares.low_noise, (even * _LOW_NOISE_BELOW).long(), drawn)

    def _tokenise(self, text: str) -> Tensor:
        return torch.tensor(tokenise(self._tokenizer, text)[:1])


def negative_prompt(rng: np.random.Generator) -> str:
    """The default negative prompt, or a random part of its words, possibly none."""
    default = str(Params.model_fields["negative_prompt"].default)
    if rng.random() < 0.6:
        return default
    words = default.split(SEPARATOR)
    return SEPARATOR.join(rng.permutation(words)[: rng.integers(len(words))])
