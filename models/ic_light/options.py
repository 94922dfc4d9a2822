"""Options of `ic-light`."""

from __future__ import annotations

from pydantic import Field

from models.options import ModelOptions


class Options(ModelOptions):
    """What an operator chooses for `ic-light`."""

    cpu_noise: bool = Field(
        False,
        description="Generate ic-light's noise on the CPU: a seed then gives the same picture on every device, but "
        "another one than a GPU's own noise. pulid-lightning always does.",
    )
