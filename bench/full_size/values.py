"""Random values that keep activations finite, fast enough for files of gigabytes.

The values of a tensor are one block of random numbers, repeated; where in the random stream the block begins follows
from the tensor's name and seed. The block's length is prime, so rows of a matrix differ. Scales are those of
`models.demo.random_weights`: variance 1 / fan-in for weights, near 1 for norms, near 0 for biases.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.full_size.stored import Stored

_BLOCK: Final = 524_287
"""Numbers of a block; a prime."""
_POOL: Final = 1 << 23
_BLOCKS_AT_ONCE: Final = 8
_TYPES: Final = {"F16": np.float16, "F32": np.float32, "I64": np.int64}
_NORM_SPREAD: Final = 0.1
_BIAS_SPREAD: Final = 0.05
_EMBEDDING_SPREAD: Final = 0.02
_LOGIT_SCALE: Final = 4.6
"""Logarithm of the temperature of CLIP's published models."""


class RandomValues:
    """Gives the values of tensors by their names: a `Draw`."""

    def __init__(self, seed: int = 0) -> None:
        """Draw the random stream, 32 MB."""
        self._pool = np.random.default_rng(seed).standard_normal(_POOL, dtype=np.float32)

    def __call__(self, key: str, stored: Stored, seed: int, scale: float) -> Iterator[bytes]:
        """The bytes of a tensor, in pieces of at most 8 blocks."""
        kind = _TYPES[stored.dtype]
        fixed = _fixed(key, stored)
        if fixed is not None:
            yield fixed.astype(kind).tobytes()
            return
        begin = (zlib.crc32(key.encode()) ^ seed) % (_POOL - _BLOCK)
        block = _scaled(key, stored, self._pool[begin : begin + min(stored.count, _BLOCK)], scale).astype(kind)
        piece = np.tile(block, min(_BLOCKS_AT_ONCE, math.ceil(stored.count / _BLOCK)))
        for done in range(0, stored.count, len(piece)):
            yield piece[: stored.count - done].tobytes()

    def array(self, key: str, stored: Stored, seed: int, scale: float) -> NDArray[Any]:
        """The whole tensor."""
        data = b"".join(self(key, stored, seed, scale))
        return np.frombuffer(bytearray(data), _TYPES[stored.dtype]).reshape(stored.shape)


def _fixed(key: str, stored: Stored) -> NDArray[Any] | None:
    """What is not random: positions, counters, schedules."""
    if key.endswith("position_ids"):
        return np.arange(stored.count)
    if key.endswith("num_batches_tracked"):
        return np.zeros(stored.count)
    if key.endswith("logit_scale"):
        return np.full(stored.count, _LOGIT_SCALE)
    return None


def _scaled(key: str, stored: Stored, draw: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    if len(stored.shape) >= 2:
        spread = _EMBEDDING_SPREAD if "embedding.weight" in key else 1 / math.sqrt(math.prod(stored.shape[1:]))
        return draw * np.float32(scale * spread)
    if key.endswith("running_var"):
        return 1 + np.float32(_NORM_SPREAD) * np.abs(draw)
    if key.endswith("weight"):
        return np.float32(scale) * (1 + np.float32(_NORM_SPREAD) * draw)
    return draw * np.float32(scale * _BIAS_SPREAD)
