"""Options of `toy`."""

from __future__ import annotations

from pydantic import Field

from models.options import ModelOptions


class Options(ModelOptions):
    """What an operator chooses."""

    toy_white: int = Field(255, ge=0, le=255, description="Level that toy makes of black.")
