"""A matting network of RMBG-1.4's topology and keys in narrow widths."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from safetensors.torch import save_file

from models.demo_weights.random_weights import randomise
from models.ic_light.rmbg import BlockWidths, ConvUnit, Rmbg, RmbgWidths

_SEED: Final = 14
_WIDTHS: Final = RmbgWidths(
    stem=8,
    blocks={
        "stage1": BlockWidths(8, 4, 8),
        "stage2": BlockWidths(8, 4, 16),
        "stage3": BlockWidths(16, 8, 16),
        "stage4": BlockWidths(16, 8, 16),
        "stage5": BlockWidths(16, 8, 16),
        "stage6": BlockWidths(16, 8, 16),
        "stage5d": BlockWidths(32, 8, 16),
        "stage4d": BlockWidths(32, 8, 16),
        "stage3d": BlockWidths(32, 8, 16),
        "stage2d": BlockWidths(32, 4, 8),
        "stage1d": BlockWidths(16, 4, 8),
    },
)


def write_rmbg(file: Path) -> None:
    """Write the state dict to `file`, whose folder is made."""
    network = Rmbg(_WIDTHS)
    randomise(network, _SEED)
    for unit in network.modules():
        if isinstance(unit, ConvUnit):
            unit.conv_s1.weight.data *= math.sqrt(2)  # the ReLU behind it halves the variance
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), file)
