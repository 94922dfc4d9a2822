"""The demo's matting network, of RMBG-1.4's topology and keys, from the trained file, whose widths it has."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from models.demo.trained_files import RMBG, Trained
from models.ic_light.rmbg import Rmbg, widths_of
from models.runtime.load import empty, fill


def write_rmbg(file: Path, trained: Trained) -> None:
    """Write the state dict, in single precision, to `file`, whose folder is made; raises `WeightsError`."""
    state = load_file(trained.verified(RMBG))
    network = empty(lambda: Rmbg(widths_of(state)))
    fill(network, state, torch.device("cpu"), torch.float32)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), file)
