"""IC-Light golden sets: folders with any of `cases/`, `unit/` and `weights/`, and one input picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open

from tests.parity.iclight.case import OUTPUT, Case
from tests.parity.iclight.free_run import free_run
from tests.parity.iclight.golden_set import GoldenSet
from tests.parity.iclight.stages import stages
from tests.parity.iclight.units import CHECKS
from tests.parity.report import Row, exact

_OF_CASES: Final = {".json", ".safetensors", ".png"}
Check = Callable[[], Iterable[Row]]


def checks(folder: Path, device: torch.device) -> Iterator[tuple[str, Check]]:
    """What `folder` holds, each file or case with its check."""
    golden = GoldenSet(folder, device)
    if (folder / "weights").is_dir():
        yield "weights", partial(_weights, golden)
    for file in sorted((folder / "unit").glob("*")):
        if file.name in CHECKS:
            yield f"unit/{file.name}", partial(_inferring, CHECKS[file.name], golden)
        elif file.suffix == ".safetensors":
            yield f"unit/{file.name}", _unknown
    # A case is known by any of its files: what is missing beside it must show.
    files = (folder / "cases").glob("*")
    for name in sorted({_case_of(file) for file in files if file.suffix in _OF_CASES}):
        case = Case(golden, name)
        yield f"cases/{name}", partial(_inferring, stages, case)
        yield f"cases/{name}", partial(_inferring, free_run, case)


def _case_of(file: Path) -> str:
    return re.sub(OUTPUT, "", file.stem) if file.suffix == ".png" else file.stem


@torch.inference_mode()
def _inferring(check: Callable[..., Iterator[Row]], subject: GoldenSet | Case) -> Iterator[Row]:
    threads = torch.get_num_threads()
    # Convolutions add up in another order with each number of threads, which moves encoded pictures by up to 2e-4,
    # twice what is allowed. The golden values are those of two threads, to the bit on the same processor.
    torch.set_num_threads(2)
    try:
        yield from check(subject)
    finally:
        torch.set_num_threads(threads)


def _unknown() -> Iterable[Row]:
    raise ValueError("no check is known for a file of this name")


def _weights(golden: GoldenSet) -> Iterator[Row]:
    """Whether every weight file makes a whole network: an offset holds the very keys of its UNet."""
    networks = golden.networks
    unets = {"ic_light_fc": networks.unet, "ic_light_fbc": networks.background_unet}
    for role, unet in unets.items():
        if role in golden.weights.paths:
            with safe_open(golden.weights[role], "pt") as file:
                yield exact(f"{role} keys", sorted(file.keys()), sorted(unet.state_dict()))
