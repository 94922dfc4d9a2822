"""Weights of networks that are offloaded to host memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)


class OffloadedWeights:
    """The tensors of one network, in one contiguous block of host memory."""

    def __init__(self, tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> None:
        """Copy `tensors`, all floating point, in precision `dtype`; `device` is where they will be loaded."""
        self._block = torch.empty(sum(tensor.numel() for tensor in tensors.values()), dtype=dtype)
        if device.type == "cuda":
            _lock_pages(self._block, device)
        parts = torch.split(self._block, [tensor.numel() for tensor in tensors.values()])
        self._tensors = {
            name: part.view(tensor.shape).copy_(tensor)
            for (name, tensor), part in zip(tensors.items(), parts, strict=True)
        }

    def load_into(self, network: nn.Module) -> None:
        """Overwrite the network's tensors in place: captured graphs that hold their addresses stay valid."""
        for name, tensor in network.state_dict().items():
            tensor.copy_(self._tensors[name], non_blocking=True)


def _lock_pages(block: Tensor, device: torch.device) -> None:
    """Page-lock the block for asynchronous copies; torch's own pinned allocations are rounded up to 2^n bytes."""
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    with torch.cuda.device(device):
        status = int(runtime.cudaHostRegister(block.data_ptr(), block.nbytes, 0))
    if status:
        _log.warning("memory cannot be page-locked (CUDA error %d): switching checkpoints will take longer", status)
