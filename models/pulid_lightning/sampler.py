"""DPM-Solver++ (SDE) on Karras sigmas, as k-diffusion and ComfyUI run it (PuLID specification section 7).

Two evaluations of the model for every step, one for the last: 4 steps are 7 evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from itertools import count, pairwise
from typing import Final

import torch
from torch import Tensor

from models.pipeline import OnStep
from models.pulid_lightning.brownian import brownian_increments

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(latents [n, 4, h, w], sigma, a scalar) -> denoised latents of the same shape."""
Noise = Callable[[Tensor, Tensor], Tensor]
"""(start sigma, end sigma) -> unit noise [n, 4, h, w]."""
SigmaStep = tuple[float, float]
"""(start, end) of an ancestral step, start > end."""

STEPS: Final = 4
_RHO: Final = 7.0
_TRAINING_STEPS: Final = 1000
_BETA_START: Final = 0.00085
_BETA_END: Final = 0.012


@cache
def training_sigmas() -> Tensor:
    """Sigmas of SDXL's 1000 training timesteps, ascending, float32 [1000]."""
    # float64 until the end: the product of 1000 factors loses digits, and the noise path is sensitive to them.
    betas = torch.linspace(_BETA_START**0.5, _BETA_END**0.5, _TRAINING_STEPS, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    return ((1 - alphas) / alphas).sqrt().float()


def karras_sigmas(steps: int) -> Tensor:
    """Descending Karras sigmas [steps + 1], float32: from the largest training sigma to the smallest, then 0."""
    table = training_sigmas()
    low, high = (float(sigma) ** (1 / _RHO) for sigma in (table[0], table[-1]))
    ramp = torch.linspace(0, 1, steps)
    return torch.cat(((high + ramp * (low - high)) ** _RHO, torch.zeros(1)))


def timestep_of(sigma: Tensor) -> int:
    """The training timestep, 0..999, whose log-sigma is nearest to that of `sigma`."""
    return int((training_sigmas().log() - sigma.log()).abs().argmin())


def evaluated_sigmas(sigmas: Tensor) -> list[Tensor]:
    """The sigmas, scalars, at which `sample` evaluates the model, in order."""
    pairs = pairwise(sigmas[:-1])
    return [*(evaluated for pair in pairs for evaluated in (pair[0], _midpoint(*pair))), sigmas[-2]]


def initial_latents(shape: tuple[int, ...], seed: int, sigma_max: Tensor) -> Tensor:
    """Start noise [n, 4, h, w] at `sigma_max`; sampled on the CPU, so a seed gives the same noise for every device."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return noise * (1 + sigma_max**2).sqrt()


class PrecomputedNoise:
    """Noise computed outside of the denoise loop, so that the loop does not wait for the CPU between evaluations."""

    def __init__(self, steps: Sequence[SigmaStep], noise: Callable[[], Tensor]) -> None:
        """`noise` returns the noise [steps, n, 4, h, w] of `steps`; called once, after the first evaluation."""
        self._steps, self._compute = steps, noise

    def __call__(self, start: Tensor, end: Tensor) -> Tensor:
        """Unit noise [n, 4, h, w] between the sigmas `start` and `end`, one of `steps`."""
        return self._noise[float(start), float(end)]

    @cached_property
    def _noise(self) -> dict[SigmaStep, Tensor]:
        return dict(zip(self._steps, self._compute(), strict=True))


def sigma_steps(sigmas: Tensor) -> list[SigmaStep]:
    """The ancestral steps of `sample`, each of which adds noise, in order."""
    steps = []
    for sigma, sigma_next in pairwise(sigmas[:-1]):
        steps += [_through_log(sigma, _midpoint(sigma, sigma_next)), _through_log(sigma, sigma_next)]
    return [(float(start), float(end)) for start, end in steps]


def precompute_noise(shape: tuple[int, ...], seed: int, sigmas: Tensor) -> Tensor:
    """Noise [steps, n, 4, h, w] of one request for all of `sigma_steps(sigmas)`, on the CPU; `seed` in 0..2^53-1.

    Unit noise, correlated where two steps overlap: increments of one Brownian path between the largest and the smallest
    positive of `sigmas`.
    """
    steps = sigma_steps(sigmas)
    path = float(sigmas[sigmas > 0].min()), float(sigmas.max())
    increments = brownian_increments(shape, seed, path, [(end, start) for start, end in steps])
    # Lengths in float32, as the reference computes them.
    lengths = [torch.tensor(start) - torch.tensor(end) for start, end in steps]
    return torch.stack([-increment / length.sqrt() for increment, length in zip(increments, lengths, strict=True)])


def sample(denoise: Denoise, latents: Tensor, sigmas: Tensor, noise: Noise, on_step: OnStep) -> Tensor:
    """Denoise latents [n, 4, h, w] from `sigmas[0]` to 0, the last of `sigmas`; `on_step` after every evaluation."""
    total, steps = 2 * (len(sigmas) - 1) - 1, count(1)

    def evaluate(x: Tensor, sigma: Tensor) -> Tensor:
        denoised = denoise(x, sigma)
        on_step(next(steps), total)
        return denoised

    x = latents
    # With r = 1/2 the full step uses the prediction at the midpoint only; the first prediction leads to the midpoint.
    for sigma, sigma_next in pairwise(sigmas[:-1]):
        middle = _midpoint(sigma, sigma_next)
        halfway = _ancestral_step(x, evaluate(x, sigma), sigma, middle, noise)
        x = _ancestral_step(x, evaluate(halfway, middle), sigma, sigma_next, noise)
    return evaluate(x, sigmas[-2])


def _midpoint(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    return (sigma.log() + (sigma_next.log() - sigma.log()) * 0.5).exp()


def _through_log(sigma: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    # The reference computes exp(log(sigma)), and the noise path is sensitive to the last bit of its query.
    return sigma.log().exp(), target.log().exp()


def ancestral(sigma: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Split a step from `sigma` to `target` with eta 1: (sigma to denoise down to, sigma of the noise added then)."""
    up = torch.minimum(target, (target**2 * (sigma**2 - target**2) / sigma**2).sqrt())
    return (target**2 - up**2).sqrt(), up


def _ancestral_step(x: Tensor, denoised: Tensor, sigma: Tensor, target: Tensor, noise: Noise) -> Tensor:
    """One ancestral step of `x` from `sigma` to `target`, given the prediction `denoised`."""
    sigma, target = _through_log(sigma, target)
    down, up = ancestral(sigma, target)
    keep = down / sigma
    return keep * x + (1 - keep) * denoised + up * noise(sigma, target).to(x.device)
