"""The GPU: the driver's own tool is asked, so torch is not needed for it."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from cli.doctor.finding import Finding, fail, ok, warn
from workers.settings import WorkerSettings

_QUERY: Final = ("index", "name", "driver_version", "compute_cap", "memory.total", "memory.used")
_LEAST_DRIVER: Final = 580
"""The branch for CUDA 13, which torch's wheels are built for."""
_LEAST_CAPABILITY: Final = 7.5
_TIMEOUT_S: Final = 20
_MIB: Final = 1024**2
_GIGABYTE: Final = 1e9


@dataclass(frozen=True)
class _Card:
    """As nvidia-smi tells it, in its words: `[N/A]` for what it does not know; memory in MiB."""

    index: str
    name: str
    driver: str
    capability: str
    total: str
    used: str


def check_gpu(settings: WorkerSettings) -> Iterator[Finding]:
    """Driver, compute capability and memory of every GPU that is seen, and whether torch can use one."""
    wants_gpu = settings.device.startswith("cuda")
    try:
        cards = _cards()
    except (OSError, subprocess.SubprocessError, TypeError) as error:  # the last for another number of words
        yield fail(f"nvidia-smi fails: {_reason(error)}", "Reinstall the driver, or restart the host after its update.")
        return
    if not cards:
        yield _without_gpu(settings, wants_gpu)
        return
    for card in cards:
        yield from _check_card(card)
    if find_spec("torch") is None:
        yield ok("torch is not installed, so whether it can use the GPU is not checked: a gateway needs neither")
    elif settings.device != "cpu":
        yield _check_torch()


def _cards() -> list[_Card]:
    """What nvidia-smi lists; nothing where there is no such program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout  # noqa: S603
    return [_Card(*(word.strip() for word in row)) for row in csv.reader(listed.splitlines()) if row]


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return (error.stdout + error.stderr).strip().partition("\n")[0] or f"exit status {error.returncode}"
    return str(error)


def _without_gpu(settings: WorkerSettings, wants_gpu: bool) -> Finding:
    toolkit = "Install the driver; in a container, give it the GPU (NVIDIA container toolkit)."
    if wants_gpu:
        return fail(f"FACELIGHT_DEVICE is {settings.device}, but no GPU is seen", toolkit)
    if settings.device == "cpu" or find_spec("torch") is None:
        return ok("no GPU is seen, and none is needed here")
    return warn("no GPU is seen: a worker here computes on the CPU, which takes minutes for a picture", toolkit)


def _check_card(card: _Card) -> Iterator[Finding]:
    total, used = _number(card.total), _number(card.used)
    memory = "" if total is None else f", {total * _MIB / _GIGABYTE:.1f} GB of memory"
    in_use = "" if used is None else f", {used * _MIB / _GIGABYTE:.1f} GB of it in use"
    told = f"GPU {card.index}: {card.name}, driver {card.driver}, compute capability {card.capability}{memory}{in_use}"
    driver, capability = _number(card.driver.partition(".")[0]), _number(card.capability)
    if driver is not None and driver < _LEAST_DRIVER:
        yield fail(told, f"Install a driver of branch {_LEAST_DRIVER} or newer: torch is built for CUDA 13.")
    elif capability is not None and capability < _LEAST_CAPABILITY:
        yield fail(told, f"Use a GPU of compute capability {_LEAST_CAPABILITY} or more (T4, RTX 20 and later).")
    else:
        yield ok(told)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _check_torch() -> Finding:
    import torch

    if torch.cuda.is_available():
        return ok(f"torch {torch.__version__} can use {torch.cuda.device_count()} GPU(s)")
    return fail(
        f"torch {torch.__version__} can use no GPU, though the driver lists one",
        "Restart the host if the driver was updated; look whether CUDA_VISIBLE_DEVICES hides the GPU, and whether "
        "torch is the build for CUDA.",
    )
