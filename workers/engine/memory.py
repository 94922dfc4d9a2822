"""Whether a model will fit: what its parts need against what is free, on this host and on the device.

Asked before anything is loaded. Who loads more than a host has is killed by the kernel, without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.model import MemoryNeed

if TYPE_CHECKING:
    import torch

_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_GIGABYTE: Final = 1e9
_WORKING_BYTES: Final = 2 * 1024**3
"""Kept free for activations of a default request and the libraries' buffers; less for networks smaller than that."""


def free_host_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Bytes that this process can still take: what the host has available, or less if its control group allows less.

    The file cache counts as free in both. Control groups of version 1 and 2, with all groups above. `proc` and
    `cgroups` are where the two file systems are mounted.
    """
    available = re.search(r"^MemAvailable:\s+(\d+) kB", _read(proc / "meminfo"), re.MULTILINE)
    limits = [int(available[1]) * 1024] if available else []
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += _left_in(cgroups, path, "memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            mount = cgroups / "memory"
            limits += _left_in(mount, path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
    return max(0, min(limits, default=0))


def _left_in(mount: Path, path: str, limit: str, usage: str, prefix: str) -> Iterator[int]:
    """Bytes left in a control group and in each above it, as far as they are limited and visible."""
    group = mount / path.strip("/")
    if not (group / usage).is_file():
        group = mount  # in a container the path is the host's, and the group itself is what is mounted
    for folder in (group, *group.parents):
        most, used = _read(folder / limit).strip(), _read(folder / usage).strip()
        if most.isdecimal() and used.isdecimal():
            cached = re.findall(rf"^{prefix}(?:in)?active_file (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
            yield int(most) - int(used) + sum(map(int, cached))
        if folder == mount:
            return


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def shortage(needs: Sequence[MemoryNeed], device: torch.device, host_free: int) -> str:
    """Which memory is too small for these parts, with needed and free bytes; empty if all is large enough."""
    if device.type != "cuda":
        parts = {need.part: need.device + need.host for need in needs}
        return _compared("this host", parts, host_free)
    import torch

    torch.cuda.empty_cache()
    on_device = {need.part: need.device for need in needs}
    on_host = {need.part: need.host for need in needs}
    return _compared(str(device), on_device, torch.cuda.mem_get_info(device)[0]) or _compared(
        "this host", on_host, host_free
    )


def _compared(where: str, parts: dict[str, int], free: int) -> str:
    reserve = min(_WORKING_BYTES, sum(parts.values()))
    needed = sum(parts.values()) + reserve
    if needed <= free:
        return ""
    listed = ", ".join(f"{part} {_told(size)}" for part, size in parts.items() if size)
    return (
        f"{where} has {_told(free)} of memory free where {_told(needed)} are needed: {listed}, and "
        f"{_told(reserve)} to work in"
    )


def _told(size: int) -> str:
    return f"{size / _GIGABYTE:.2f} GB"
