"""The noise schedule against the specification's own figures and formulas (sections 8 and 9)."""

from __future__ import annotations

import math

import pytest
import torch

from models.ic_light.sampling import StepRange, add_noise, full_range, make_scheduler, partial_range

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("steps", "strength", "step_range", "evaluations"),
    [
        (25, 0.9, StepRange(28, 3), 25),
        (25, 0.5, StepRange(50, 25), 25),
        (25, 0.8, StepRange(31, 7), 24),
        (25, 0.35, StepRange(71, 47), 24),
        (5, 0.1, StepRange(50, 45), 5),
        (25, 1.0, StepRange(25, 0), 25),
        (1, 0.9, StepRange(1, 0), 1),
        (1, 0.4, StepRange(2, 1), 1),
    ],
)
def test_a_pass_from_a_picture_walks_the_end_of_a_longer_schedule(steps, strength, step_range, evaluations):
    assert partial_range(steps, strength) == step_range
    assert step_range.evaluations == evaluations


def test_every_pass_takes_a_step_and_never_more_than_asked_for():
    ranges = [(steps, partial_range(steps, s / 100)) for steps in range(1, 101) for s in range(10, 101)]
    assert all(max(1, steps - 1) <= span.evaluations <= steps and span.begin >= 0 for steps, span in ranges)


def test_timesteps_and_sigmas_are_the_published_ones():
    scheduler = make_scheduler(full_range(25), CPU)
    published = "999,968,936,901,865,826,784,738,689,636,579,516,449,378,305,235,171,117,75,44,24,11,5,2,0"
    assert scheduler.timesteps.tolist() == [int(t) for t in published.split(",")]
    assert scheduler.sigmas[0].item() == pytest.approx(25.146116)
    assert scheduler.sigmas[-2].item() == pytest.approx(0.0291675, abs=1e-7)
    assert scheduler.sigmas[-1] == 0


def polar(sigma: float) -> tuple[float, float, float]:
    """(signal, noise, log of their ratio) of a sigma."""
    a = 1 / math.sqrt(sigma**2 + 1)
    return a, sigma * a, math.inf if sigma == 0 else -math.log(sigma)


def solve(sigmas: list[float], x: torch.Tensor, epsilons: torch.Tensor, noises: torch.Tensor) -> torch.Tensor:
    """The specification's formulas, step by step, in float64."""
    x0_before = h_before = None
    for sigma, after, epsilon, z in zip(sigmas, sigmas[1:], epsilons, noises, strict=False):
        (a, s, ratio), (a_next, s_next, ratio_next) = polar(sigma), polar(after)
        x0 = (x - s * epsilon) / a
        if after == 0:
            return x0
        h = ratio_next - ratio
        decay = 1 - math.exp(-2 * h)
        x = (s_next / s) * math.exp(-h) * x + a_next * decay * x0 + s_next * math.sqrt(decay) * z
        if x0_before is not None:
            x = x + 0.5 * a_next * decay * (x0 - x0_before) * h / h_before
        x0_before, h_before = x0, h
    raise AssertionError("the schedule does not end at zero")


@pytest.mark.parametrize(
    "step_range", [StepRange(25, 0), StepRange(28, 3), StepRange(7, 1), StepRange(1, 0), StepRange(1000, 990)]
)
def test_steps_follow_the_formulas(step_range: StepRange):
    generator = torch.Generator().manual_seed(0)
    x, *rest = torch.randn(1 + 2 * step_range.evaluations, 1, 4, 4, 4, generator=generator)
    epsilons, noises = rest[: step_range.evaluations], rest[step_range.evaluations :]
    scheduler = make_scheduler(step_range, CPU)
    sigmas = scheduler.sigmas.double().tolist()[step_range.begin :]
    latents = x
    for timestep, epsilon, z in zip(scheduler.timesteps[step_range.begin :], epsilons, noises, strict=True):
        latents = scheduler.step(epsilon, timestep, latents, variance_noise=z).prev_sample
    expected = solve(sigmas, x.double(), torch.stack(epsilons).double(), torch.stack(noises).double())
    assert (latents - expected).abs().max() < 1e-3


def test_a_start_picture_is_mixed_with_noise_at_the_first_steps_level():
    scheduler = make_scheduler(StepRange(28, 3), CPU)
    latents, noise = torch.full((2, 4, 3, 3), 2.0), torch.full((2, 4, 3, 3), -1.0)
    a, s, _ = polar(scheduler.sigmas[3].item())
    assert torch.allclose(add_noise(scheduler, latents, noise), torch.full_like(latents, 2 * a - s))
