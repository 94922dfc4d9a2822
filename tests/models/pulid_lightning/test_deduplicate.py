"""Equal tensors of several networks are kept once."""

from __future__ import annotations

import torch
from torch import nn

from models.pulid_lightning.deduplicate import TensorPool


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval().requires_grad_(False)


def addresses(module: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in module.state_dict().values()]


def test_equal_networks_share_all_of_it():
    pool, first, second = TensorPool(), network(1), network(1)
    expected = second(torch.ones(1, 3))
    pool.deduplicate("unet", first)
    pool.deduplicate("unet", second)
    assert addresses(first) == addresses(second)
    assert torch.equal(second(torch.ones(1, 3)), expected)


def test_only_what_is_equal_is_shared():
    pool, first, second = TensorPool(), network(1), network(1)
    second[0].bias += 1
    expected = second(torch.ones(1, 3))
    pool.deduplicate("unet", first)
    pool.deduplicate("unet", second)
    assert first[0].weight.data_ptr() == second[0].weight.data_ptr()
    assert first[0].bias.data_ptr() != second[0].bias.data_ptr()
    assert torch.equal(second(torch.ones(1, 3)), expected)


def test_a_third_may_share_with_either():
    pool, networks = TensorPool(), [network(1), network(2), network(2)]
    for each in networks:
        pool.deduplicate("unet", each)
    assert networks[2][0].weight.data_ptr() == networks[1][0].weight.data_ptr()
    assert networks[2][0].weight.data_ptr() != networks[0][0].weight.data_ptr()


def test_networks_of_another_kind_share_nothing():
    pool, first, second = TensorPool(), network(1), network(1)
    pool.deduplicate("clip_l", first)
    pool.deduplicate("clip_g", second)
    assert not set(addresses(first)) & set(addresses(second))
