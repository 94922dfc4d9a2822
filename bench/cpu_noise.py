"""Thread time of the noise of a pulid-lightning request, ours and torchsde's in turn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Final

import torch
import torchsde
from torch import Tensor

from bench.cpu_encoding import fastest
from bench.report import Row, row
from models.pulid_lightning.sampler import STEPS, karras_sigmas, precompute_noise, sigma_steps

_ROUNDS: Final = 15
_SIGMAS: Final = karras_sigmas(STEPS)
_LARGEST: Final = round(float(_SIGMAS[0]), 6)
"""torchsde rounds the ends of its path, and warns of what lies beyond."""


def rows() -> Iterator[Row]:
    """One image and four of 1024 x 1024 px; about 20 s."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for count in (1, 4):
            yield from _of_images(count)
    finally:
        torch.set_num_threads(threads)


def by_torchsde(shape: tuple[int, ...], seed: int) -> Tensor:
    """The noise of all steps, one query after the other."""
    path = torchsde.BrownianTree(_SIGMAS[-2], torch.zeros(shape), _SIGMAS[0], entropy=seed)
    steps = [tuple(map(torch.tensor, step)) for step in sigma_steps(_SIGMAS)]
    return torch.stack([-path(float(end), min(float(start), _LARGEST)) / (start - end).sqrt() for start, end in steps])


def _of_images(count: int) -> Iterator[Row]:
    arguments = (count, 4, 128, 128), 1234
    ours, theirs = partial(precompute_noise, *arguments, _SIGMAS), partial(by_torchsde, *arguments)
    differing = int((ours() != theirs()).sum())
    took, default = fastest(ours, theirs, rounds=_ROUNDS, clock=time.thread_time)
    what, note = f"noise, {count} x 1024 px", f"{took:.1f} ms, torchsde {default:.1f} ms"
    yield row(f"{what}: numbers that differ", differing, "numbers", "== 0")
    yield row(f"{what}: thread time", took / default, "x torchsde", "<= 0.45", note)
