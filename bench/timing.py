"""Times on a device: by its own clock on CUDA, by the process's elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import torch

Work = Callable[[], Any]

_GEMM_SIDES: Final = (8192, 4096)
"""Sides of the square matrices whose product shows the device's rate; the faster one counts."""
_GEMM_SIDE_CPU: Final = 1024
_GEMMS: Final = 10


@dataclass(frozen=True)
class Timing:
    """Milliseconds over all repetitions."""

    median: float
    least: float


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(work: Work, device: torch.device) -> float:
    """How long the device and the host take for it together, from an idle device to an idle device."""
    synchronise(device)
    if device.type != "cuda":
        return wall_milliseconds(work, device)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def wall_milliseconds(work: Work, device: torch.device) -> float:
    """The same by the host's clock: what the host computes before its first launch counts too."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return (time.perf_counter() - start) * 1e3


def interleaved(works: Mapping[str, Work], device: torch.device, repeats: int) -> dict[str, Timing]:
    """Take turns after one round that does not count, so that a disturbance meets all alike."""
    for work in works.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            taken[name].append(milliseconds(work, device))
    return {name: Timing(median(times), min(times)) for name, times in taken.items()}


def matmul_rate(device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    """FLOP in a second of large matrix products: what no network can exceed in that precision."""
    sides = _GEMM_SIDES if device.type == "cuda" else (_GEMM_SIDE_CPU,)
    return max(_rate(side, device, dtype, repeats) for side in sides)


def _rate(side: int, device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def products() -> None:
        for _ in range(_GEMMS):
            torch.mm(a, b)

    least = interleaved({"gemm": products}, device, repeats)["gemm"].least
    return _GEMMS * 2 * side**3 / (least / 1e3)
