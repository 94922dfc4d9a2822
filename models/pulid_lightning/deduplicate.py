"""Keeping what several checkpoints have in common only once."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class TensorPool:
    """The tensors of networks that are loaded side by side.

    Fine-tuned checkpoints often leave the text encoders and the VAE as they were; three of SDXL's share gigabytes.
    """

    def __init__(self) -> None:
        """Begin without any tensor."""
        self._kept: defaultdict[str, list[Tensor]] = defaultdict(list)

    def share(self, kind: str, network: Network) -> Network:
        """Make `network` use the tensors of an earlier network of its `kind`, name by name, where they are equal.

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
