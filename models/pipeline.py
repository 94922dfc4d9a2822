"""The seam between the worker and a model: three stages, of which only the middle one needs the device."""

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

It is the one way out of a running pipeline: progress, deadline and cancellation come through it, the last two
as exceptions that it raises and the pipeline lets pass.
"""

Pixels = NDArray[np.uint8]
"""Pictures of one request: RGB, 8 bit, [n, height, width, 3]."""

Outcome = Pixels | NonFiniteResult
"""Pictures of one request, or why it has none while others of its run may have theirs."""


CheckpointMemory = Literal["auto", "device", "host"]
"""Where checkpoints that are not in use wait: on the device, or in the host's memory, one on the device at a time."""
Compile = Literal["auto", "off", "on", "max"]
"""Whether networks are compiled: for CUDA alone, never, always, or with a long search for the fastest kernels."""


ExecutionMode = Literal["eager", "compiled", "captured"]
"""How networks are executed: operator by operator, as compiled graphs, or as CUDA graphs (compiled where possible)."""


@dataclass(frozen=True)
class ExecutionReport:
    """The slowest mode among a model's networks for a default request, and why it is not the mode that was chosen."""

    mode: ExecutionMode = "eager"
    fallback: str = ""


@dataclass(frozen=True)
class LoadOptions:
    """What the operator chooses for the models of a worker.

    `cpu_noise`: draw random numbers on the CPU, so that a seed means the same on every device.
    `pulid_body_share`: how pulid-lightning measures the share of the face's embedding in the attention.
    `checkpoints`: those that pulid-lightning keeps; empty for all that the weights hold. `checkpoint_memory`: where.
    `compile`: whether networks are compiled. `fp8`: compute pulid-lightning's transformers in float8, which changes its
    pictures.
    """

    cpu_noise: bool = False
    pulid_body_share: Literal["comfyui", "official"] = "comfyui"
    checkpoints: tuple[str, ...] = ()
    checkpoint_memory: CheckpointMemory = "auto"
    compile: Compile = "auto"
    fp8: bool = False


DEFAULT_OPTIONS: Final = LoadOptions()
"""What an operator who chooses nothing gets."""


class Pipeline(ABC, Generic[Params, Prepared]):
    """One loaded model. `run` and `warm_up` are called by one thread; `prepare` and `finish` may overlap them."""

    @property
    @abstractmethod
    def variants(self) -> tuple[str, ...]:
        """Which of the parameters' variants the loaded weights can serve."""

    @abstractmethod
    def prepare(self, params: Params, images: Mapping[str, bytes]) -> Prepared:
        """Do what needs no accelerator: decode the pictures, find the face, tokenise.

        `images` maps each image field of `params` to the encoded file as the caller sent it.
        `params.seed` is resolved: never negative. Raises `InputRefused` for what the caller must mend.
        """

    @abstractmethod
    def batch_key(self, prepared: Prepared) -> Hashable:
        """What requests must agree in to be drawn in one run; equal for any two that `run` takes together."""

    @abstractmethod
    def run(self, batch: Sequence[Prepared], on_step: OnStep) -> Sequence[Outcome]:
        """Generate the pictures of requests of one batch_key, on the device and nothing but the device, in their order.

        `on_step` after every denoise step, which all of them share. Each has its own noise, so its pictures do not
        depend on its neighbours beyond rounding. What is not finite ends as an outcome of its request alone.
        """

    def warm_up(self) -> None:
        """Do once what would delay the first requests: compile, choose kernels. Nothing, if there is none of that."""

    @property
    def execution(self) -> ExecutionReport:
        """How the networks are executed once `warm_up` has returned."""
        return ExecutionReport()

    def finish(self, params: Params, pixels: Pixels) -> list[bytes]:
        """Encode every picture in the format and quality that `params` ask for; same order as `pixels`."""
        return encode_all(pixels, params.output_format, params.output_quality)
