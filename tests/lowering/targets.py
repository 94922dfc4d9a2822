"""GPUs that kernels are compiled for, with the properties by which Inductor and Triton choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Target:
    """One GPU: compute capability, multiprocessors, and per-block or per-multiprocessor limits (CUDA's tables)."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_memory: int
    """Bytes of shared memory that a block may have at most."""
    memory: int
    """Bytes of device memory."""
    threads: int
    """Threads that a multiprocessor runs at most."""

    @property
    def arch(self) -> int:
        """The number in `sm_90`."""
        major, minor = self.capability
        return 10 * major + minor


_KIB, _GIB = 1 << 10, 1 << 30
TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for target in (
        Target("t4", (7, 5), 40, 64 * _KIB, 16 * _GIB, 1024),
        Target("a100", (8, 0), 108, 163 * _KIB, 80 * _GIB, 2048),
        Target("l4", (8, 9), 58, 99 * _KIB, 24 * _GIB, 1536),
        Target("4090", (8, 9), 128, 99 * _KIB, 24 * _GIB, 1536),
        Target("h200", (9, 0), 132, 227 * _KIB, 141 * _GIB, 2048),
    )
}
