"""Decoded images, and whether the values they were computed from are finite.

Conversion to uint8 turns nan into black and inf into white, so values are checked before it: on the device, without a
synchronisation. The flags are copied to the host with the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.errors import NonFiniteResult
from models.pipeline import Outcome


class Decoded(NamedTuple):
    """`pictures`: uint8 [n, height, width, 3]. `non_finite`: bool [n, 2], of latents and decoder output."""

    pictures: Tensor
    non_finite: Tensor


def non_finite(*stages: Tensor) -> Tensor:
    """Whether rows of tensors [n, ...] have inf or nan: bool [n, number of tensors]."""
    return torch.stack([~torch.isfinite(stage).all(dim=tuple(range(1, stage.ndim))) for stage in stages], 1)


def concatenate(decoded: Sequence[Decoded]) -> Decoded:
    """Concatenate along the images."""
    pictures, found = zip(*decoded, strict=True)
    return Decoded(torch.cat(pictures), torch.cat(found))


def outcomes(pictures: Tensor, found: Tensor, stages: Sequence[str], counts: Sequence[int]) -> list[Outcome]:
    """Copy images [n, ...] to the host and split them by request, `counts` images each.

    `found`: bool [n, stages], whether a stage is not finite, in order of computation; `stages`: their names. A request
    with an image that is not finite gets a `NonFiniteResult` that names the first such stage.
    """
    ends = list(accumulate(counts))[:-1]
    split = zip(np.split(pictures.cpu().numpy(), ends), np.split(found.cpu().numpy(), ends), strict=True)
    return [NonFiniteResult(stages[int(rows.any(0).argmax())]) if rows.any() else pixels for pixels, rows in split]
