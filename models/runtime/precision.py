"""Floating-point formats of networks, by what a device computes fast and without overflow."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

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


def identity_precision(device: torch.device) -> torch.dtype:
    """Precision of the vision tower and the identity encoder: float16 on CUDA, float32 elsewhere.

    Float32 products do without tensor cores there, and take twice the memory.
    """
    return torch.float16 if device.type == "cuda" else torch.float32


def bmm_to_float32(a: Tensor, b: Tensor) -> Tensor:
    """The batched matrix product of [n, rows, k] and [n, k, columns], of any precision, with a result in float32."""
    if a.is_cuda and a.dtype != torch.float32:
        return torch.bmm(a, b, out_dtype=torch.float32)
    # Of this overload there is no kernel but CUDA's, from half precision.
    return torch.bmm(a.float(), b.float())
