"""Constants that make a group norm divide by nearly the same number everywhere, so that absolute values survive it."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

CALM: Final = 3.0
"""What such a norm divides by, roughly, where the other activations are of unit scale; its weights make up for it."""


def constants(size: int) -> Tensor:
    """The values of the two channels that hold them, in a group of `size` channels."""
    level = CALM * math.sqrt(size / 2)
    return torch.tensor([level, -level])
