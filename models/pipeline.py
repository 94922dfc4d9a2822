"""The interface between the worker and a model: prepare, run on the device, finish."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.errors import NonFiniteResult
from models.imaging.encode import encode_all
from models.params import CommonParams

Params = TypeVar("Params", bound=CommonParams)
Prepared = TypeVar("Prepared")

OnStep = Callable[[int, int], None]
"""Called after each finished denoise step with (step, total), step counting from 1 over the whole request.

Progress, deadline and cancellation work through it, the last two by exceptions, which the pipeline propagates.
"""

Pixels = NDArray[np.uint8]
"""Images of one request: RGB, uint8 [n, height, width, 3]."""

Outcome = Pixels | NonFiniteResult
"""Images of one request, or why it has none; other requests of the batch are not affected."""
ExecutionMode = Literal["eager", "compiled", "captured"]
"""How networks are executed: operator by operator, as compiled graphs, or as CUDA graphs (compiled where possible)."""


STAGES: Final = ("checkpoint", "text", "encode", "denoise", "decode")
"""Stages of a run: a checkpoint is activated, prompts are encoded, pictures are encoded (matting, identity and VAE),
latents are denoised, decoded and copied to the host."""


@dataclass(frozen=True)
class ExecutionReport:
    """How the UNet is executed for a default request, and what of the model is slower than was chosen, and why."""

    mode: ExecutionMode = "eager"
    fallback: str = ""


class Pipeline(ABC, Generic[Params, Prepared]):
    """One loaded model. `run` and `warm_up` are called by one thread; `prepare` and `finish` may overlap them."""

    @property
    @abstractmethod
    def variants(self) -> tuple[str, ...]:
        """The variants of the parameters that the loaded weights can serve."""

    @abstractmethod
    def prepare(self, params: Params, images: Mapping[str, bytes]) -> Prepared:
        """What another thread may do while `run` computes other requests: decode images, detect the face, tokenise.

        `images` maps each image field of `params` to the uploaded file. `params.seed` is resolved: never negative.
        Raises `InputRefused` for input that cannot be served.
        """

    @abstractmethod
    def batch_key(self, prepared: Prepared) -> Hashable:
        """Requests with equal keys can be executed in one batch."""

    @abstractmethod
    def run(self, batch: Sequence[Prepared], on_step: OnStep) -> Sequence[Outcome]:
        """Generate the images of a batch of requests with equal batch keys; outcomes in the order of the requests.

        `on_step` is called after every denoise step of the batch. Every request has its own noise, so its images do not
        depend on the rest of the batch beyond rounding. A result that is not finite is the outcome of its request only.
        """

    def warm_up(self) -> None:
        """Do once what would delay the first requests: compile, choose kernels, capture. By default nothing."""

    @property
    def execution(self) -> ExecutionReport:
        """How the networks are executed once `warm_up` has returned."""
        return ExecutionReport()

    @property
    def stage_intervals(self) -> Sequence[tuple[str, float, float]]:
        """Of the last `run`, for the thread that called it: stages, seconds from its start, and their durations.

        In the order of time; a stage, one of `STAGES`, may be there several times. By default none.
        """
        return ()

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        """The durations by stage, in the order of their first entries."""
        total: dict[str, float] = {}
        for stage, _, seconds in self.stage_intervals:
            total[stage] = total.get(stage, 0.0) + seconds
        return total

    def finish(self, params: Params, pixels: Pixels) -> list[bytes]:
        """Encode every image in the format and quality of `params`, in the order of `pixels`."""
        return encode_all(pixels, params.output_format, params.output_quality)
