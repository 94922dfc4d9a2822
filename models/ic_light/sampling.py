"""Noise: the schedule, its solver (one scheduler per pass), and the random numbers of a request.

IC-Light specification sections 8, 9 and 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

SETTINGS: Final[Mapping[str, Any]] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "algorithm_type": "sde-dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
    "lower_order_final": True,
    "euler_at_final": False,
    "final_sigmas_type": "zero",
    "use_karras_sigmas": True,
    "use_lu_lambdas": False,
    "thresholding": False,
    # These two have no effect with Karras sigmas; they are pinned with the rest.
    "timestep_spacing": "linspace",
    "steps_offset": 1,
}
"""The solver's settings: everything that matters is pinned against changes of the library's defaults.

The betas are linear, unlike the base model's own.
"""
_LATENT_CHANNELS: Final = 4


@dataclass(frozen=True)
class StepRange:
    """Which part of a schedule a pass walks: the schedule's length in steps and the index of the first one taken."""

    length: int
    begin: int

    @property
    def evaluations(self) -> int:
        """Number of denoise steps that the pass takes."""
        return self.length - self.begin


def full_range(steps: int) -> StepRange:
    """The step_range of a pass that starts from pure noise."""
    return StepRange(length=steps, begin=0)


def partial_range(steps: int, strength: float) -> StepRange:
    """The step_range of a pass that starts from a picture: about `steps` steps at the end of a longer schedule.

    `strength` in 0..1 is the part of the schedule that is walked. At least one step is taken, where the reference
    fails for some combinations with `steps` 1.
    """
    length = round(steps / strength)
    return StepRange(length=length, begin=length - max(1, min(int(length * strength), length)))


def make_scheduler(step_range: StepRange, device: torch.device) -> Any:
    """Make the SDE DPM-Solver++ (2M) of one pass, standing at the step_range's first step.

    Steps go by index: at low noise long schedules repeat integer timesteps.
    """
    scheduler = DPMSolverMultistepScheduler(**SETTINGS)
    scheduler.set_timesteps(step_range.length, device=device)
    scheduler.set_begin_index(step_range.begin)
    return scheduler


def add_noise(scheduler: Any, latents: Tensor, noise: Tensor) -> Tensor:
    """Mix latents [n, 4, h, w] with noise of the same shape to the level of the scheduler's first step."""
    first = scheduler.timesteps[scheduler.begin_index]
    return torch.as_tensor(scheduler.add_noise(latents, noise, first.expand(len(latents))))


class Noise:
    """One running generator per request: every draw covers all its pictures, in the order in which they are used.

    The stream depends on the number of pictures and on the kind of `source`, the device that draws it. Drawn on the
    CPU it is the same whatever `device` computes with it.
    """

    def __init__(self, seed: int, count: int, device: torch.device, source: torch.device | None = None) -> None:
        """Seed the stream of `count` pictures with `seed` in 0..2^53-1; `source` is `device` if not given."""
        self._source = device if source is None else source
        self._generator = torch.Generator(self._source).manual_seed(seed)
        self._count = count
        self._device = device

    def draw(self, size: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draw the next standard normal [count, 4, height, width]; `size` is (height, width) in latent pixels."""
        shape = (self._count, _LATENT_CHANNELS, *size)
        # In another precision the CPU's stream would be another one, and precision depends on the device.
        drawn = torch.float32 if self._source.type == "cpu" else dtype
        return torch.randn(shape, generator=self._generator, device=self._source, dtype=drawn).to(self._device, dtype)


class BatchNoise:
    """The streams of several requests that are drawn together: each draws its own, and the rows are put together."""

    def __init__(self, streams: Sequence[Noise]) -> None:
        """Take the streams, in the order of the requests."""
        self._streams = streams

    def draw(self, size: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draw the next standard normal [pictures of all requests, 4, height, width]."""
        return torch.cat([stream.draw(size, dtype) for stream in self._streams])
