"""Deduplication of tensors that several checkpoints have in common."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class TensorPool:
    """The distinct tensors of the networks loaded so far.

    Fine-tuned checkpoints often keep the base model's text encoders and VAE: three of SDXL have gigabytes in common.
    """

    def __init__(self) -> None:
        """Create an empty pool."""
        self._kept: defaultdict[str, list[Tensor]] = defaultdict(list)

    def deduplicate(self, kind: str, network: Network) -> Network:
        """Replace tensors of `network` by equal ones of the same name of an earlier network of its `kind`.

        Returns `network`.
        """
        for name, tensor in chain(network.named_parameters(), network.named_buffers()):
            tensor.data = self._pooled(f"{kind}.{name}", tensor.data)
        return network

    def _pooled(self, name: str, tensor: Tensor) -> Tensor:
        for kept in self._kept[name]:
            if torch.equal(kept, tensor):
                return kept
        self._kept[name].append(tensor)
        return tensor
