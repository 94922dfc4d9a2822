"""Layouts of weights."""

from __future__ import annotations

import torch

from models.runtime.load import for_device
from tests.models.runtime.networks import Little


def test_on_cuda_convolutions_lie_channels_last() -> None:
    network = Little()
    assert for_device(network, torch.device("cuda")) is network
    assert network.convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert not network.convolution.weight.is_contiguous()
    assert network.linear.weight.is_contiguous()


def test_elsewhere_they_lie_as_they_were_loaded() -> None:
    assert for_device(Little(), torch.device("cpu")).convolution.weight.is_contiguous()
