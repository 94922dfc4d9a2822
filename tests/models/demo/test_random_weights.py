"""Repeatable random tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.demo.random_weights import random_state, random_tensor


def test_a_tensor_depends_on_key_and_seed_only():
    first = random_tensor("a.weight", (4, 3), 1)
    assert torch.equal(first, random_tensor("a.weight", (4, 3), 1))
    assert not torch.equal(first, random_tensor("b.weight", (4, 3), 1))
    assert not torch.equal(first, random_tensor("a.weight", (4, 3), 2))


def test_matrices_keep_the_scale_of_activations():
    weight = random_tensor("a.weight", (256, 64, 3, 3), 1)
    assert weight.std().item() == pytest.approx((64 * 9) ** -0.5, rel=0.02)


@pytest.mark.parametrize(("key", "centre"), [("norm.weight", 1), ("norm.bias", 0), ("bn.running_mean", 0)])
def test_vectors_are_near_their_neutral_value(key: str, centre: float):
    assert random_tensor(key, (4096,), 1).mean().item() == pytest.approx(centre, abs=0.01)


def test_a_variance_is_positive():
    assert (random_tensor("bn.running_var", (4096,), 1) >= 1).all()


def test_shapes_are_enough():
    with torch.device("meta"):
        state = nn.Linear(3, 2).state_dict()
    drawn = random_state(state, 5)
    assert {key: value.shape for key, value in drawn.items()} == {"weight": (2, 3), "bias": (2,)}
    assert drawn["weight"].device.type == "cpu"


def test_counters_are_kept():
    norm = nn.BatchNorm2d(3)
    norm.num_batches_tracked.fill_(7)
    drawn = random_state(norm.state_dict(), 1)
    assert drawn["num_batches_tracked"] == 7
    assert not torch.equal(drawn["weight"], torch.ones(3))
