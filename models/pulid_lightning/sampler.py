"""DPM-Solver++ (SDE) on Karras sigmas, as k-diffusion and ComfyUI run it (PuLID specification section 7).

Two evaluations of the model for every step, one for the last: 4 steps are 7 evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import count, pairwise
from typing import Final

import torch
import torchsde
from torch import Tensor

from models.pipeline import OnStep

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Latents [n, 4, h, w] at a sigma (a scalar) give the denoised latents."""
Noise = Callable[[Tensor, Tensor], Tensor]
"""Unit noise [n, 4, h, w] for the way from one sigma to another."""
Way = tuple[float, float]
"""From a sigma down to another."""

STEPS: Final = 4
_RHO: Final = 7.0
_TRAINING_STEPS: Final = 1000
_BETA_START: Final = 0.00085
_BETA_END: Final = 0.012
_PATH_DIGITS: Final = 6


@cache
def training_sigmas() -> Tensor:
    """Sigma of each of SDXL's 1000 training timesteps, rising, float32."""
    # float64 up to the last line: the product of a thousand factors loses digits that the noise path would notice.
    betas = torch.linspace(_BETA_START**0.5, _BETA_END**0.5, _TRAINING_STEPS, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    return ((1 - alphas) / alphas).sqrt().float()


def karras_sigmas(steps: int) -> Tensor:
    """Falling sigmas [steps + 1], float32, from the largest training sigma to the smallest, then 0."""
    table = training_sigmas()
    low, high = (float(sigma) ** (1 / _RHO) for sigma in (table[0], table[-1]))
    ramp = torch.linspace(0, 1, steps)
    return torch.cat(((high + ramp * (low - high)) ** _RHO, torch.zeros(1)))


def timestep_of(sigma: Tensor) -> int:
    """The training timestep, 0..999, whose sigma is closest to `sigma` in the logarithm."""
    return int((training_sigmas().log() - sigma.log()).abs().argmin())


def evaluated_sigmas(sigmas: Tensor) -> list[Tensor]:
    """The sigmas, scalars, at which `sample` evaluates its model, in their order."""
    pairs = pairwise(sigmas[:-1])
    return [*(evaluated for pair in pairs for evaluated in (pair[0], _midpoint(*pair))), sigmas[-2]]


def initial_latents(shape: tuple[int, ...], seed: int, sigma_max: Tensor) -> Tensor:
    """Pure noise [n, 4, h, w] at `sigma_max`, drawn on the CPU so that a seed means the same on every device."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return noise * (1 + sigma_max**2).sqrt()


class BrownianNoise:
    """Increments of one Brownian path over sigma: unit noise, correlated where the ways overlap."""

    def __init__(self, shape: tuple[int, ...], seed: int, sigmas: Tensor) -> None:
        """Fix the path for `seed` (0..2^53-1) between the largest and the smallest positive of `sigmas`."""
        low, high = sigmas[sigmas > 0].min(), sigmas.max()
        self._path = torchsde.BrownianTree(low, torch.zeros(shape), high, entropy=seed)
        # The path rounds its own end to its tolerance, and warns of queries beyond it.
        self._end = round(float(high), _PATH_DIGITS)

    def __call__(self, start: Tensor, end: Tensor) -> Tensor:
        """Unit noise [n, 4, h, w] on the CPU, for the way from sigma `start` down to `end`."""
        increment: Tensor = self._path(float(end), min(float(start), self._end))
        return -increment / (start - end).sqrt()


class DrawnNoise:
    """Unit noise that was drawn for every way that `sample` goes, so that it need not be drawn between evaluations."""

    def __init__(self, ways: Sequence[Way], drawn: Tensor) -> None:
        """Take the ways and their noise [ways, n, 4, h, w]."""
        self._drawn = dict(zip(ways, drawn, strict=True))

    def __call__(self, start: Tensor, end: Tensor) -> Tensor:
        """Unit noise [n, 4, h, w] for the way from sigma `start` down to `end`."""
        drawn: Tensor = self._drawn[float(start), float(end)]
        return drawn


def noise_ways(sigmas: Tensor) -> list[Way]:
    """The ways between sigmas for which `sample` asks for noise, in their order."""
    ways = []
    for sigma, sigma_next in pairwise(sigmas[:-1]):
        ways += [_way(sigma, _midpoint(sigma, sigma_next)), _way(sigma, sigma_next)]
    return [(float(start), float(end)) for start, end in ways]


def draw_noise(shape: tuple[int, ...], seed: int, sigmas: Tensor) -> Tensor:
    """The noise [ways, n, 4, h, w] of one request, for all of `noise_ways`; on the CPU."""
    path = BrownianNoise(shape, seed, sigmas)
    return torch.stack([path(*map(torch.tensor, way)) for way in noise_ways(sigmas)])


def sample(denoise: Denoise, latents: Tensor, sigmas: Tensor, noise: Noise, on_step: OnStep) -> Tensor:
    """Denoise `latents` at `sigmas[0]` all the way; `on_step` after every evaluation, `sigmas` end with 0."""
    total, steps = 2 * (len(sigmas) - 1) - 1, count(1)

    def evaluate(x: Tensor, sigma: Tensor) -> Tensor:
        denoised = denoise(x, sigma)
        on_step(next(steps), total)
        return denoised

    x = latents
    # With the midpoint halfway, only its prediction counts for the whole step; the first one leads there.
    for sigma, sigma_next in pairwise(sigmas[:-1]):
        middle = _midpoint(sigma, sigma_next)
        halfway = _ancestral_step(x, evaluate(x, sigma), sigma, middle, noise)
        x = _ancestral_step(x, evaluate(halfway, middle), sigma, sigma_next, noise)
    return evaluate(x, sigmas[-2])


def _midpoint(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    return (sigma.log() + (sigma_next.log() - sigma.log()) * 0.5).exp()


def _way(sigma: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    # The reference passes sigmas through their logarithm, and the path's values hang on the last bit.
    return sigma.log().exp(), target.log().exp()


def ancestral(sigma: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Parts of the way from `sigma` down to `target`: the sigma to go down to, and that of the fresh noise (eta 1)."""
    up = torch.minimum(target, (target**2 * (sigma**2 - target**2) / sigma**2).sqrt())
    return (target**2 - up**2).sqrt(), up


def _ancestral_step(x: Tensor, denoised: Tensor, sigma: Tensor, target: Tensor, noise: Noise) -> Tensor:
    """Move `x` from `sigma` to `target` along `denoised`, part of the way as fresh noise."""
    sigma, target = _way(sigma, target)
    down, up = ancestral(sigma, target)
    keep = down / sigma
    return keep * x + (1 - keep) * denoised + up * noise(sigma, target).to(x.device)
