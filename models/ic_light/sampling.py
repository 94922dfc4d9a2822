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
"""Scheduler settings, pinned against changes of the library's defaults. Betas are linear, unlike SD1.5's own."""
_LATENT_CHANNELS: Final = 4


@dataclass(frozen=True)
class StepRange:
    """The part of a schedule that a pass takes: the schedule's length in steps, and the index of the first step."""

    length: int
    begin: int

    @property
    def evaluations(self) -> int:
        """Number of denoise steps of the pass."""
        return self.length - self.begin


def full_range(steps: int) -> StepRange:
    """All steps: a pass that starts from noise."""
    return StepRange(length=steps, begin=0)


def partial_range(steps: int, strength: float) -> StepRange:
    """About `steps` steps at the end of a longer schedule: a pass that starts from an image.

    `strength` in 0..1 is the part of the schedule that is taken, at least one step; the reference fails for some
    strengths with `steps` 1.
    """
    length = round(steps / strength)
    return StepRange(length=length, begin=length - max(1, min(int(length * strength), length)))


def make_scheduler(step_range: StepRange, device: torch.device) -> Any:
    """The SDE DPM-Solver++ (2M) of one pass, set to the first step of `step_range`.

    Driven by index: long schedules repeat integer timesteps at low noise.
    """
    scheduler = DPMSolverMultistepScheduler(**SETTINGS)
    scheduler.set_timesteps(step_range.length, device=device)
    scheduler.set_begin_index(step_range.begin)
    return scheduler


def add_noise(scheduler: Any, latents: Tensor, noise: Tensor) -> Tensor:
    """Add noise to latents [n, 4, h, w] at the level of the scheduler's first step."""
    first = scheduler.timesteps[scheduler.begin_index]
    return torch.as_tensor(scheduler.add_noise(latents, noise, first.expand(len(latents))))


class Noise:
    """The random generator of one request; every sample covers all its images (section 12).

    The stream depends on the number of images and on the type of `source`, the device of the generator. From the CPU
    it is the same for every compute device.
    """

    def __init__(self, seed: int, count: int, device: torch.device, source: torch.device | None = None) -> None:
        """Seed the generator of `count` images, `seed` in 0..2^53-1; `source` is `device` by default."""
        self._source = device if source is None else source
        self._generator = torch.Generator(self._source).manual_seed(seed)
        self._count = count
        self._device = device

    def draw(self, size: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Sample the next standard normal [count, 4, height, width]; `size` is (height, width) in latents."""
        shape = (self._count, _LATENT_CHANNELS, *size)
        # The CPU's stream depends on the dtype, and the dtype on the device: always float32.
        source_dtype = torch.float32 if self._source.type == "cpu" else dtype
        return torch.randn(shape, generator=self._generator, device=self._source, dtype=source_dtype).to(
            self._device, dtype
        )


class BatchNoise:
    """The noise of a batch: each request samples from its own generator, and the rows are concatenated."""

    def __init__(self, streams: Sequence[Noise]) -> None:
        """`streams` in the order of the requests."""
        self._streams = streams

    def draw(self, size: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Sample the next standard normal [images of all requests, 4, height, width]."""
        return torch.cat([stream.draw(size, dtype) for stream in self._streams])
