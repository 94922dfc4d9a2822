"""Random but repeatable tensors for the demo weights.

Every tensor has its own random stream, seeded by its key: adding, dropping or reordering keys changes no other
tensor, and the same key, shape and seed give the same bytes on every build of one machine.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_NORM_SPREAD = 0.1
_BIAS_SPREAD = 0.05


def random_tensor(key: str, shape: Sequence[int], seed: int) -> Tensor:
    """Draw the float32 tensor that `key` has under `seed`.

    Two or more dimensions: normal with variance 1 / fan-in, which keeps activations at unit scale. One dimension:
    near 1 for a norm's scale (`weight`, `running_var`), near 0 for everything else (biases, means).
    """
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()) ^ seed)
    draw = torch.randn(tuple(shape), generator=generator)
    # Tables of embeddings have no fan-in, but the same small scale does them no harm.
    if len(shape) >= 2:
        return draw / math.sqrt(math.prod(shape[1:]))
    if key.endswith("running_var"):
        return 1 + _NORM_SPREAD * draw.abs()
    if key.endswith("weight"):
        return 1 + _NORM_SPREAD * draw
    return _BIAS_SPREAD * draw


def random_state(state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Draw a new state dict with the keys and shapes of `state`, in float32.

    The tensors of `state` may be on the meta device. Integer tensors (counters, position tables) are kept as they are.
    """
    return {
        key: random_tensor(key, value.shape, seed) if value.is_floating_point() else value.clone()
        for key, value in state.items()
    }
