"""Projections of one text for many layers, together and each by itself."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.counts.counting import operators
from models.pulid_lightning.checkpoints import OffloadedWeights, TensorPool
from models.runtime.projections import lay_side_by_side, project
from models.runtime.unet import text_contexts, text_weights, unet_for_device
from tests.models.runtime.networks import sdxl

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ROWS = torch.tensor([0, 0, 1])


@pytest.fixture
def weights() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(wide, 4) for wide in (6, 8, 6, 6, 8)]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def unet() -> Any:
    torch.manual_seed(2)
    return sdxl().requires_grad_(False)


@pytest.fixture
def text() -> Tensor:
    return torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(3))


def operators_of(x: Tensor, weights: Sequence[Tensor]) -> int:
    return operators(lambda: project(x, weights))


def assert_contexts_are_those_of(unet: Any, text: Tensor, found: Any) -> None:
    """The contexts of `unet`, each by its layer's own forward pass."""
    with torch.inference_mode():
        for weight_lists, name in zip(text_weights(unet), ("key", "value"), strict=True):
            for context, weight in zip(found, weight_lists, strict=True):
                torch.testing.assert_close(getattr(context, name), F.linear(text, weight))


@pytest.mark.parametrize("rows", [None, ROWS])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 2, 0, 1, 3]])
def test_weights_side_by_side_give_what_each_gives(
    weights: list[Tensor], x: Tensor, rows: Tensor | None, order: list[int]
) -> None:
    expected = [F.linear(x if rows is None else x[rows], weights[place]) for place in order]
    before = operators_of(x, weights)
    lay_side_by_side(weights)
    found = project(x, [weights[place] for place in order], rows)
    torch.testing.assert_close(found, expected)
    assert all(result.is_contiguous() for result in found)
    assert (before, operators_of(x, weights)) == (5, 2)


def test_weights_that_were_replaced_are_used(weights: list[Tensor], x: Tensor) -> None:
    lay_side_by_side(weights)
    weights[2] = torch.randn(6, 4)
    torch.testing.assert_close(project(x, weights), [F.linear(x, weight) for weight in weights])


def test_a_unet_on_a_gpu_has_its_projections_side_by_side(unet: Any, text: Tensor) -> None:
    expected = copy.deepcopy(unet)
    addresses = [weight.data_ptr() for weight in text_weights(unet)[0]]
    unet_for_device(unet, CPU)
    assert [weight.data_ptr() for weight in text_weights(unet)[0]] == addresses
    assert unet_for_device(unet, CUDA) is unet
    assert_contexts_are_those_of(expected, text, text_contexts(unet, text))
    assert operators(lambda: text_contexts(unet, text)) < operators(lambda: text_contexts(expected, text))


def test_weights_that_are_loaded_in_place_are_used(unet: Any, text: Tensor) -> None:
    unet_for_device(unet, CUDA)
    other = sdxl()
    OffloadedWeights(other.state_dict(), torch.float32, CPU).load_into(unet)
    assert_contexts_are_those_of(other, text, text_contexts(unet, text))


def test_equal_unets_share_the_blocks_and_others_keep_what_differs(unet: Any, text: Tensor) -> None:
    equal, changed, pool = copy.deepcopy(unet), copy.deepcopy(unet), TensorPool()
    text_weights(changed)[1][0].mul_(2)
    few = None
    for each in (unet, equal, changed):
        pool.deduplicate("unet", unet_for_device(each, CUDA))
        few = few or operators(lambda: text_contexts(unet, text))
    assert text_weights(equal)[0][0].data_ptr() == text_weights(unet)[0][0].data_ptr()
    assert operators(lambda: text_contexts(equal, text)) == few
    assert_contexts_are_those_of(changed, text, text_contexts(changed, text))
    assert not torch.equal(text_weights(changed)[1][0], text_weights(unet)[1][0])
