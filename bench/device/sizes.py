"""Section `sizes` of `bench.gpu`: what the first request of an unseen size costs.

Whatever is chosen, planned or compiled by size shows here, and nowhere else: all other sections measure warm requests.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from statistics import median
from typing import Final

import torch

from bench.device.endpoints import Endpoint
from bench.device.requests import Bench
from bench.report import Row, row
from bench.timing import wall_milliseconds

UNSEEN: Final = {False: 20, True: 3}
"""How many sizes, at full size and reduced."""
_SIDES: Final = {
    ("pulid-lightning", False): range(512, 1281, 8),
    ("pulid-lightning", True): range(256, 321, 8),
    ("ic-light", False): range(512, 833, 64),
    ("ic-light", True): range(256, 385, 64),
}
"""Sides in px, by endpoint and whether it is reduced."""


@torch.inference_mode()
def rows(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """The first and the second request of 20 sizes, by wall time; the endpoint is warm."""
    default, sides = endpoint.prepare().params, _SIDES[endpoint.name, bench.reduced]
    firsts, seconds = [], []
    for width, height in unseen_sizes(sides, (default.width, default.height), UNSEEN[bench.reduced]):
        work = endpoint.run(endpoint.prepare(width=width, height=height))
        firsts.append(wall_milliseconds(work, bench.device))
        seconds.append(wall_milliseconds(work, bench.device))
    ratios = [first / second for first, second in zip(firsts, seconds, strict=True)]
    name, note = f"{endpoint.name}: first request of an unseen size", f"median of {len(ratios)} sizes"
    yield row(name, median(firsts), "ms", note=f"{note}, largest {max(firsts):.4g} ms")
    yield row(f"{endpoint.name}: second request of it", median(seconds), "ms", note=note)
    spread = f"of their sums; median {median(ratios):.3g}, largest {max(ratios):.3g}"
    yield row(f"{name} / second", sum(firsts) / sum(seconds), "", endpoint.goal("first / second"), spread)


def unseen_sizes(sides: range, seen: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """That many different (width, height) in px other than `seen`; the same ones in every run."""
    sizes = [(width, height) for width in sides for height in sides if (width, height) != seen]
    return random.Random(0).sample(sizes, count)
