"""The demo weights of ic-light: a base model, the offsets of both UNets, a matting network."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file

from models.demo.sd15 import write_offset, write_sd15
from models.demo.trained_files import RMBG, Trained
from models.ic_light.networks import BACKGROUND_CHANNELS, FOREGROUND_CHANNELS
from models.ic_light.rmbg import Rmbg, widths_of
from models.runtime.load import empty, fill
from models.weights.installed import InstalledWeight, describe

_PATHS: Final = {
    "sd15": "sd15",
    "ic_light_fc": "ic-light/iclight_sd15_fc.safetensors",
    "ic_light_fbc": "ic-light/iclight_sd15_fbc.safetensors",
    "rmbg": "rmbg/model.safetensors",
}


def build(root: Path, trained: Trained) -> list[InstalledWeight]:
    """Write the files below `root` and describe them; the same bytes on every call.

    Raises `WeightsError` if a trained file is not the one that its lock names.
    """
    write_sd15(root / _PATHS["sd15"], trained)
    write_offset(root / _PATHS["ic_light_fc"], FOREGROUND_CHANNELS, trained)
    write_offset(root / _PATHS["ic_light_fbc"], BACKGROUND_CHANNELS, trained)
    write_rmbg(root / _PATHS["rmbg"], trained)
    return [describe(root, role, path, ["ic-light"], "facelight demo") for role, path in _PATHS.items()]


def write_rmbg(file: Path, trained: Trained) -> None:
    """Write a matting network of RMBG-1.4's topology, in float32, to `file`; raises `WeightsError`."""
    state = load_file(trained.verified(RMBG))
    network = empty(lambda: Rmbg(widths_of(state)))
    fill(network, state, torch.device("cpu"), torch.float32)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), file)
