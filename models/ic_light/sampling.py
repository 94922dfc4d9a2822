"""Sampling: the noise schedule, its solver (one scheduler per pass), a request's random numbers, the denoise loop.

IC-Light specification sections 7 to 9, 12 and 13.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from models.ic_light.vae import LATENT_SCALE
from models.runtime.unet import TextContext, attend_to_text, evaluate, text_contexts, time_shifts

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


Predict = Callable[[Any, Tensor, Tensor, tuple[TextContext, ...]], Tensor]
"""(UNet, input, time shift, text contexts) -> predicted noise [rows, 4, h, w]."""
MAX_PIXELS: Final = 3072 * 3072
"""Pixels of a batch: those of the largest image served. Twelve images of the default size fit (section 13)."""
MAX_IMAGES: Final = 24
"""Images of a batch, two UNet rows each with guidance: channels-last convolution kernels fail beyond 63 rows."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of n images, one row per image.

    `cond_latents`: foreground latents [n, 4, h, w], or foreground and background latents [n, 8, h, w]. `positive`,
    `negative`: text embeddings [n, tokens, width]. `guidance`: classifier-free guidance scale, 1 for none. A pass
    whose conditions differ in the latents alone (`dataclasses.replace`) uses the projected texts of the pass before.
    """

    cond_latents: Tensor
    positive: Tensor
    negative: Tensor
    guidance: float
    _projected: dict[int, list[tuple[TextContext, ...]]] = field(default_factory=dict, repr=False, compare=False)
    """Contexts of the groups of at most so many images."""

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on."""
        return self.guidance > 1

    @property
    def texts(self) -> Tensor:
        """Text embeddings of the UNet's batch: with guidance the negative rows, then the positive ones."""
        return torch.cat((self.negative, self.positive)) if self.guided else self.positive

    def split(self, size: int) -> list[Conditions]:
        """The same conditions in groups of at most `size` images."""
        parts = (torch.split(part, size) for part in (self.cond_latents, self.positive, self.negative))
        groups = zip(*parts, strict=True)
        return [Conditions(cond, positive, negative, self.guidance) for cond, positive, negative in groups]

    def contexts(self, unet: Any, size: int) -> list[tuple[TextContext, ...]]:
        """The texts as the cross-attentions of `unet`, always the same one, see them, for each group of `split`."""
        if size not in self._projected:
            self._projected[size] = [text_contexts(unet, group.texts) for group in self.split(size)]
        return self._projected[size]


def predict_noise(unet: Any, batch: Tensor, shift: Tensor, contexts: tuple[TextContext, ...]) -> Tensor:
    """One UNet evaluation; a `Predict`."""
    return evaluate(unet, batch, shift, contexts, attend_to_text)


def denoise(
    predict: Predict,
    unet: Any,
    scheduler: Any,
    latents: Tensor,
    conditions: Conditions,
    noise: Noise | BatchNoise,
    on_step: Callable[[], None],
) -> Tensor:
    """Denoise latents [n, 4, h, w] over the scheduler's remaining steps.

    `on_step` is called after each step; its exceptions propagate.
    """
    height, width = latents.shape[2:]
    size = max_batch(LATENT_SCALE * width, LATENT_SCALE * height)
    groups = list(zip(conditions.split(size), conditions.contexts(unet, size), strict=True))
    timesteps = scheduler.timesteps[scheduler.begin_index :]
    for timestep, shift in zip(timesteps, time_shifts(unet, timesteps), strict=True):
        parts = zip(torch.split(latents, size), groups, strict=True)
        epsilon = torch.cat(
            [_guided(group, predict(unet, _batch(part, group), shift, contexts)) for part, (group, contexts) in parts]
        )
        # Float32 whatever the latents' dtype; sampled for the last step too, which multiplies it by 0. One sample for
        # all groups, so that the grouping does not change the images.
        fresh = noise.draw((height, width), torch.float32)
        latents = scheduler.step(epsilon, timestep, latents, variance_noise=fresh).prev_sample
        on_step()
    return latents


def unet_input(latents: Tensor, cond_latents: Tensor) -> Tensor:
    """Concatenate along the channels: noisy latents first, then the conditions."""
    return torch.cat((latents, cond_latents), dim=1)


def _batch(latents: Tensor, conditions: Conditions) -> Tensor:
    """The UNet's input: with guidance both branches in one batch, negative rows first."""
    batch = unet_input(latents, conditions.cond_latents)
    # Guidance is over the text only: both branches have the same conditioning latents.
    return batch.repeat(2, 1, 1, 1) if conditions.guided else batch


def _guided(conditions: Conditions, predicted: Tensor) -> Tensor:
    if not conditions.guided:
        return predicted
    negative, positive = predicted.chunk(2)
    return negative + conditions.guidance * (positive - negative)


def max_batch(width: int, height: int) -> int:
    """Images of `width` x `height` px that go through the UNet in one batch, at least one."""
    return max(1, min(MAX_IMAGES, MAX_PIXELS // (width * height)))
