"""The Brownian path has the bits of torchsde's tree, whatever is asked for together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pytest
import torch
import torchsde
from hypothesis import given
from hypothesis import strategies as st

from models.pulid_lightning.brownian import Interval, brownian_increments
from models.pulid_lightning.sampler import karras_sigmas, sigma_steps

SIGMAS = karras_sigmas(4)
PATH = float(SIGMAS[-2]), float(SIGMAS[0])
STEPS = [(end, start) for start, end in sigma_steps(SIGMAS)]
SMALL = (2, 4, 3, 5)


def by_torchsde(shape: tuple[int, ...], seed: int, intervals: Sequence[Interval]) -> list[torch.Tensor]:
    tree = torchsde.BrownianTree(PATH[0], torch.zeros(shape), PATH[1], entropy=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of ends that it rounds itself
        return [tree(low, high) for low, high in intervals]


def are_equal(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32, 2**53 - 1])
@pytest.mark.parametrize("shape", [SMALL, (1, 4, 32, 24)])
def test_the_samplers_steps_have_torchsdes_bits(shape: tuple[int, ...], seed: int) -> None:
    assert are_equal(brownian_increments(shape, seed, PATH, STEPS), by_torchsde(shape, seed, STEPS))


points = st.floats(0, 20, allow_nan=False)
intervals = st.lists(st.tuples(points, points).map(sorted).map(tuple), min_size=1, max_size=6)


@given(intervals, st.integers(0, 2**53 - 1))
def test_any_intervals_have_torchsdes_bits(chosen: list[Interval], seed: int) -> None:
    inside = [(low, high) for low, high in chosen if min(high, PATH[1]) - max(low, PATH[0]) > 1e-5]
    assert are_equal(brownian_increments(SMALL, seed, PATH, inside), by_torchsde(SMALL, seed, inside))


def test_an_interval_does_not_depend_on_the_others() -> None:
    together = brownian_increments(SMALL, 7, PATH, STEPS)
    assert are_equal(together, [brownian_increments(SMALL, 7, PATH, [step])[0] for step in STEPS])
    assert are_equal(together[::-1], brownian_increments(SMALL, 7, PATH, STEPS[::-1]))


def test_increments_have_the_variance_of_their_length_and_are_correlated_where_they_overlap() -> None:
    first, second, third = (float(sigma) for sigma in SIGMAS[:3])
    wanted = [(6.805, first), (second, first), (third, second)]
    half, whole, later = brownian_increments((1, 4, 64, 64), 5, PATH, wanted)
    assert whole.var().item() == pytest.approx(first - second, rel=0.06)
    assert correlation(half, whole) == pytest.approx(0.826, abs=0.02)
    assert correlation(whole, later) == pytest.approx(0, abs=0.04)


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack((first.flatten(), second.flatten())))[0, 1].item()
