"""Decoded pictures, and whether what they were made from was finite.

Conversion to 8 bits turns nan into black and inf into white, so both are looked for before it. They are counted on the
device, beside the pictures, and copied to the host with them: nothing waits for it in between.
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
    """Pictures [n, height, width, 3] of 8 bits, and what of each is not finite.

    `non_finite` is bool [n, 2]: the latents, and the decoded values before their conversion.
    """

    pictures: Tensor
    non_finite: Tensor


def non_finite(*stages: Tensor) -> Tensor:
    """For each of n rows whether a tensor [n, ...] holds inf or nan in it: bool [n, number of tensors]."""
    return torch.stack([~torch.isfinite(stage).all(dim=tuple(range(1, stage.ndim))) for stage in stages], 1)


def joined(decoded: Sequence[Decoded]) -> Decoded:
    """All of them, one behind the other."""
    pictures, found = zip(*decoded, strict=True)
    return Decoded(torch.cat(pictures), torch.cat(found))


def outcomes(pictures: Tensor, found: Tensor, stages: Sequence[str], counts: Sequence[int]) -> list[Outcome]:
    """Copy pictures [n, ...] to the host: `counts` of them for each request, or why a request has none.

    `found` is bool [n, stages]: whether a stage of the picture, in the order of computation, was not finite. `stages`
    names them for the error's text.
    """
    ends = list(accumulate(counts))[:-1]
    split = zip(np.split(pictures.cpu().numpy(), ends), np.split(found.cpu().numpy(), ends), strict=True)
    return [NonFiniteResult(stages[int(rows.any(0).argmax())]) if rows.any() else pixels for pixels, rows in split]
