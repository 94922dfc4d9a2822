"""Floating-point formats of networks, by what a device computes fast and without overflow."""

from __future__ import annotations

from typing import Final

import torch

_AMPERE: Final = (8, 0)
"""Compute capability from which cuDNN's convolutions and the fused attention kernels take bfloat16."""


def half_precision(device: torch.device) -> torch.dtype:
    """Precision of UNets and text encoders on `device`: float16 on CUDA, float32 elsewhere."""
    return torch.float16 if device.type == "cuda" else torch.float32


def wide_half_precision(device: torch.device) -> torch.dtype:
    """Precision of VAEs, whose activations exceed float16: bfloat16 on Ampere GPUs and later, float32 elsewhere.

    Older GPUs, such as the T4, emulate bfloat16 in slow kernels that need gigabytes of scratch memory.
    """
    on_ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _AMPERE
    return torch.bfloat16 if on_ampere else torch.float32
