"""Anchor channels: two large constants per group that keep a group norm's divisor nearly the same everywhere.

Absolute values of the other channels then survive the norm.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

ANCHOR_DIVISOR: Final = 3.0
"""Approximate divisor of an anchored norm for activations of unit scale; the norm's weights compensate for it."""


def anchor_values(size: int) -> Tensor:
    """Values [2] of the anchor channels in a group of `size` channels."""
    level = ANCHOR_DIVISOR * math.sqrt(size / 2)
    return torch.tensor([level, -level])
