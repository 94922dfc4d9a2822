"""What an operator chooses for a model when it is loaded. Free of torch.

Every model has an `Options` class, in `models/<model>/options.py`. The fields of all of them are settings of a worker:
`FACELIGHT_CPU_NOISE` sets `cpu_noise`. Models that have an option of the same name share the variable.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

Compile = Literal["auto", "fixed", "off", "on", "max"]
"""Whether networks are compiled: on CUDA only, there for the sizes of default requests alone, never, always, or always
with a search for the fastest kernels."""


CpuPrecision = Literal["auto", "float32", "bfloat16"]
"""Precision of UNets, text encoders and VAEs on a CPU; `auto`: by the processor, float32 for demo weights."""


def split_words(value: object) -> object:
    """Split a string at commas and ends of lines, as files of secrets have them; leave everything else as it is."""
    if isinstance(value, str):
        return tuple(word.strip() for line in value.splitlines() for word in line.split(",") if word.strip())
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_words)]
"""A comma-separated list in the environment."""


class ModelOptions(BaseModel):
    """Options that every model has."""

    model_config = ConfigDict(frozen=True)

    compile: Compile = Field(
        "auto",
        description="Compile networks at start, before anything is served: `auto` does so for a GPU alone, and falls "
        "back to eager execution where it fails, which the log and `/health/ready` say; `fixed` is `auto` for the "
        "sizes of default requests alone: other sizes run eagerly, and the first start is shorter; `off` never does; "
        "`on` always does, and a model for which it fails is not served; `max` is `on` with a search for the fastest "
        "kernels, which takes many minutes at the first start. Kernels are kept for later starts: in "
        "TORCHINDUCTOR_CACHE_DIR and TRITON_CACHE_DIR, else in `compiled` in the data folder.",
    )
    fp16_accumulation: bool = Field(
        False,
        description="Sum up float16 matrix products in float16: GeForce cards multiply at twice the rate then, other "
        "GPUs gain nothing. **Changes pictures** slightly, those of every model of the worker. Needs a GPU.",
    )
    cpu_precision: CpuPrecision = Field(
        "auto",
        description="Precision of UNets, text encoders and VAEs on a CPU; a GPU has its own, and face and matting "
        "networks are always `float32`. `bfloat16` takes half the memory, a third of the time where the processor "
        "multiplies it (AVX512-BF16, AMX), and **changes pictures** slightly. `auto` is `bfloat16` on such a "
        "processor and `float32` on others, and for demo weights.",
    )
