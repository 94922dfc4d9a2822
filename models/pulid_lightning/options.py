"""Options of `pulid-lightning`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from models.options import ModelOptions, Words
from models.pulid_lightning.params import Params

BodyWeighting = Literal["comfyui", "official"]
"""Attention weight of the body tokens in `ortho_v2`: `comfyui`, which the hosted model runs, averages over queries and
uses full-width scores; `official`, PuLID's own code, is per query and averages over heads."""
CheckpointMemory = Literal["auto", "device", "host"]
"""Where the UNets of inactive checkpoints are: on the device, or offloaded to host memory."""


class Options(ModelOptions):
    """What an operator chooses for `pulid-lightning`."""

    pulid_body_weighting: BodyWeighting = Field(
        "comfyui",
        description="How pulid-lightning weighs the face in `high-fidelity`: as the ComfyUI port that the hosted model "
        "runs, or as PuLID's own code.",
    )
    checkpoints: Words = Field(
        (),
        description="Checkpoints that pulid-lightning loads, comma-separated, of `default`, `artistic`, `realistic`. "
        "Not set: all that are installed.",
    )
    checkpoint_memory: CheckpointMemory = Field(
        "auto",
        description="Where pulid-lightning's checkpoints are: `device` keeps all on the device; `host` offloads their "
        "UNets to host memory, one at a time is on the device; `auto` takes `device` if they fit and leave 8 GiB free.",
    )
    fp8: bool = Field(
        False,
        description="Compute pulid-lightning's transformers in float8. Faster, and **changes pictures**. Needs a GPU "
        "of compute capability 8.9 or more (Ada, Hopper and later), and keeps all checkpoints on it.",
    )

    @field_validator("checkpoints")
    @classmethod
    def _known_checkpoints(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in Params.variants]:
            raise ValueError(f"unknown checkpoint {unknown[0]!r}; there are {', '.join(Params.variants)}")
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _fp8_is_not_offloaded(self) -> Self:
        if self.fp8 and self.checkpoint_memory == "host":
            raise ValueError("FACELIGHT_FP8 cannot be used with FACELIGHT_CHECKPOINT_MEMORY=host")
        return self

    @property
    def unet_memory(self) -> CheckpointMemory:
        """Where UNets are kept: with float8 on the device, since offloaded weights are not quantised."""
        return "device" if self.fp8 else self.checkpoint_memory
