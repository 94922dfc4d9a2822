"""Lowering in a process of its own, for torch and Triton remember what they learnt of a device; and its report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from tests.lowering.counts import Count, Network

REPOSITORY: Final = Path(__file__).parents[2]
_LAST_WORDS: Final = 4000
_LOCKED: Final = re.compile(r"^torch==([\w.]+)", re.MULTILINE)


class Report(BaseModel):
    """What one process found. `problems`: what must not be, in words. `seconds`: processor time by warm-up call."""

    model_config = ConfigDict(extra="forbid")

    counts: list[Count] = []
    problems: list[str] = []
    seconds: dict[str, float] = {}


def measure(target: str, model: str, network: Network, only: Sequence[str] = (), sources_only: bool = False) -> Report:
    """Lower what a worker of `model` compiles, for `target`; raises `RuntimeError` with the last words of a failure.

    `only`: functions and kinds of warm-up calls, such as `predict_noise:capture`; all without. `sources_only`: kernels
    are generated, and not compiled to machine code.
    """
    options = [f"--only={name}" for name in only] + ["--sources-only"] * sources_only
    return Report.model_validate_json(output_of("tests.lowering.measure", target, model, network, *options)[-1])


def output_of(module: str, *arguments: str) -> list[str]:
    """Run a module without the kernels that earlier runs compiled; returns the lines that it printed."""
    with tempfile.TemporaryDirectory(prefix="facelight-lowering-") as folder:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
            # In the process itself: those that it would start do not know of the fake device.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
            "TRITON_CACHE_DIR": f"{folder}/triton",
        }
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])}: {done.stderr[-_LAST_WORDS:]}")
    return done.stdout.splitlines()


def unfit_torch() -> str | None:
    """Why graphs cannot be lowered with the installed torch, or None."""
    match = _LOCKED.search((REPOSITORY / "requirements.lock").read_text())
    locked, installed = match[1] if match else "?", version("torch").partition("+")[0]
    return None if installed == locked else f"private names of torch {locked} are used, and {installed} is installed"
