"""Floating-point formats of networks, by what a device computes fast and without overflow."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from models.errors import DeviceUnfit
from models.options import CpuPrecision

_AMPERE: Final = (8, 0)
"""Compute capability from which cuDNN's convolutions and the fused attention kernels take bfloat16."""
_MULTIPLIES_BFLOAT16: Final = ("avx512_bf16", "amx_bf16")
_QUERIES: Final = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
"""The same questions, to releases of torch before `torch.cpu.get_capabilities`."""


class Precision(NamedTuple):
    """`half`: of UNets and text encoders. `wide_half`: of VAEs, whose activations exceed float16."""

    half: torch.dtype
    wide_half: torch.dtype


FULL_PRECISION: Final = Precision(torch.float32, torch.float32)


def precision_of(device: torch.device, on_cpu: torch.dtype = torch.float32) -> Precision:
    """float16 with bfloat16 VAEs on CUDA, with float32 VAEs before Ampere; `on_cpu` for everything elsewhere.

    GPUs before Ampere, such as the T4, emulate bfloat16 in slow kernels that need gigabytes of scratch memory.
    """
    if device.type != "cuda":
        return Precision(on_cpu, on_cpu)
    on_ampere = torch.cuda.get_device_capability(device) >= _AMPERE
    return Precision(torch.float16, torch.bfloat16 if on_ampere else torch.float32)


def serving_precision(device: torch.device, chosen: CpuPrecision, kind: Literal["demo", "real"]) -> Precision:
    """The precision in which weights of a `kind` are served on `device`; `chosen` counts on a CPU alone.

    `auto` is bfloat16 for real weights where the processor multiplies it in hardware. Demo weights were trained, and
    are compared, in float32.
    """
    fast = chosen == "bfloat16" or (chosen == "auto" and kind == "real" and cpu_multiplies_bfloat16())
    return precision_of(device, torch.bfloat16 if fast else torch.float32)


def cpu_multiplies_bfloat16() -> bool:
    """Whether the processor has AVX512-BF16 or AMX: without either, bfloat16 is slower than float32."""
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in _MULTIPLIES_BFLOAT16)
    return any(getattr(torch.cpu, query, bool)() for query in _QUERIES)


def accumulate_in_half(device: torch.device) -> None:
    """Have this process sum up its float16 matrix products in float16; raises `DeviceUnfit` without a GPU.

    GeForce cards multiply at twice the rate then. Convolutions, attention and bfloat16 are summed up as before.
    """
    if device.type != "cuda":
        raise DeviceUnfit("FACELIGHT_FP16_ACCUMULATION needs a GPU: other devices have no such matrix products.")
    torch.backends.cuda.matmul.allow_fp16_accumulation = True


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
