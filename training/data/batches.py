"""What the denoiser learns from: scenes, texts and noise levels, drawn anew for every step."""

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
"""How many of the neutral scenes are learned under a negative prompt: guidance runs against what that gives."""
_KARRAS_RHO: Final = 7
_KARRAS_SHARE: Final = 0.5
"""How many of the noise levels are drawn as the sampler spaces them; the others evenly over the schedule."""
_SETTLED_AT: Final = 600
"""From the levels of frontal light down to this timestep the light's side is settled."""
_CLEANED_FROM: Final = 60
"""Below this timestep the last noise is taken away: what is overlooked there stays in the picture."""


@dataclass(frozen=True)
class Emphasis:
    """Shares of the timesteps that are drawn from the levels of one task alone; the others are drawn from all."""

    settling: float
    cleaning: float


@dataclass(frozen=True)
class Batch:
    """What one step learns from; all [n, …]. `seen` are the latents of foreground and background, [n, 8, h, w]."""

    latents: Tensor
    seen: Tensor
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
    """The least noisy timestep that learns frontal light alone.

    Only requests without a light source come by the noisiest ones. What they begin from is noise, in which the denoiser
    would else see some side. Those with one begin below, where it would overlook theirs if this were any nearer.
    """
    defaults = {name: Params.model_fields[name].default for name in ("steps", "lowres_denoise")}
    scheduler = make_scheduler(partial_range(defaults["steps"], defaults["lowres_denoise"]), torch.device("cpu"))
    return (int(scheduler.timesteps[scheduler.begin_index]) + len(scheduler.alphas_cumprod)) // 2


class Batches:
    """Draws the batch of every step from the pool; `tokens` are its prompts', [n, 77] for each size."""

    def __init__(self, pool: Sequence[Examples], tokenizer: Any) -> None:
        """Tokenise all prompts."""
        self._pool = pool
        self._tokenizer = tokenizer
        self.tokens = [torch.cat([self._tokenise(prompt) for prompt in examples.prompts]) for examples in pool]
        # Every size is drawn as often as it takes to see all scenes equally often.
        batches = np.array([len(examples.targets) / examples.batch for examples in pool])
        self._odds = batches / batches.sum()
        alphas = alphas_cumprod()
        self._sigmas = ((1 - alphas) / alphas).sqrt()
        self._frontal_from = last_frontal_timestep()

    def draw(self, step: int, emphasis: Emphasis) -> Batch:
        """The batch of that step."""
        rng = np.random.default_rng((13, step))
        which = int(rng.choice(len(self._pool), p=self._odds))
        examples = self._pool[which]
        rows = torch.from_numpy(rng.integers(len(examples.targets), size=examples.batch))
        timesteps = self._timesteps(rng, len(rows), emphasis)
        rows = torch.where(timesteps >= self._frontal_from, examples.frontal[examples.subjects[rows]], rows)
        tokens = self.tokens[which][rows]
        for row in np.flatnonzero(examples.neutral[rows].numpy() & (rng.random(len(rows)) < _NEGATIVE_SHARE)):
            tokens[row] = self._tokenise(negative_prompt(rng))[0]
        latents = examples.targets[rows].float()
        seen = torch.cat((examples.foregrounds[examples.subjects[rows]], examples.backgrounds[rows]), dim=1).float()
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step))
        return Batch(latents, seen, tokens, noise, timesteps)

    def _timesteps(self, rng: np.random.Generator, count: int, emphasis: Emphasis) -> Tensor:
        even = torch.from_numpy(rng.random(count))
        least, most = self._sigmas[0] ** (1 / _KARRAS_RHO), self._sigmas[-1] ** (1 / _KARRAS_RHO)
        karras = (least + even * (most - least)) ** _KARRAS_RHO
        spaced = torch.searchsorted(self._sigmas, karras.float()).clamp(max=len(self._sigmas) - 1)
        drawn = torch.where(torch.from_numpy(rng.random(count) < _KARRAS_SHARE), spaced, (even * 1000).long())
        settling = torch.from_numpy(rng.integers(_SETTLED_AT, self._frontal_from, size=count))
        task = torch.from_numpy(rng.random(count))
        drawn = torch.where(task < emphasis.settling, settling, drawn)
        return torch.where(task >= 1 - emphasis.cleaning, (even * _CLEANED_FROM).long(), drawn)

    def _tokenise(self, text: str) -> Tensor:
        return torch.tensor(tokenise(self._tokenizer, text)[:1])


def negative_prompt(rng: np.random.Generator) -> str:
    """The default, nothing, or some of its words."""
    default = str(Params.model_fields["negative_prompt"].default)
    if rng.random() < 0.6:
        return default
    words = default.split(SEPARATOR)
    return SEPARATOR.join(rng.permutation(words)[: rng.integers(len(words))])
