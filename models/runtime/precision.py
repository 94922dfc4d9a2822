"""Floating-point formats of networks, by what a device computes fast and without overflow."""

from __future__ import annotations

from typing import Final

import torch

from models.errors import DeviceUnfit

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


def accumulate_in_half(device: torch.device) -> None:
    """Have this process sum up its float16 matrix products in float16; raises `DeviceUnfit` without a GPU.

    GeForce cards multiply at twice the rate then. Convolutions, attention and bfloat16 are summed up as before.
    """
    if device.type != "cuda":
        raise DeviceUnfit("FACELIGHT_FP16_ACCUMULATION needs a GPU: other devices have no such matrix products.")
    torch.backends.cuda.matmul.allow_fp16_accumulation = True
