"""What a measurement ran on: machine, versions, command."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

_PACKAGES: Final = (
    "facelight",
    "torch",
    "triton",
    "diffusers",
    "transformers",
    "onnxruntime",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "fastapi",
    "uvicorn",
    "redis",
    "rq",
    "pydantic",
)
_ROOT: Final = Path(__file__).resolve().parent.parent


class Machine(BaseModel):
    """The machine of a run; `gpu` is None for runs on the processor, `cores` those that the process may use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: str
    cores: int
    memory_gib: float
    system: str
    gpu: str | None


def this_machine(device: str) -> Machine:
    """Describe this machine; `device` is "cpu" or the accelerator's name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory, 1),
        system=platform.platform(),
        gpu=None if device == "cpu" else device,
    )


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that the measured code rests on, as far as they are installed."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def command_line(argv: list[str]) -> list[str]:
    """The command that repeats the run from the repository's root: any interpreter's path is `python`."""
    return ["python", *(part.removeprefix(f"{_ROOT}/") for part in argv[1:])]


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()
