"""The demo weights of ic-light: a base model, the offsets that make it see more than noise, a matting network."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file

from models.demo_weights.random_weights import random_state
from models.demo_weights.rmbg import write_rmbg
from models.demo_weights.sd15 import narrow_unet, write_sd15
from models.ic_light.unet import BACKGROUND_CHANNELS, FOREGROUND_CHANNELS
from models.weights.installed import InstalledWeight, describe

_PATHS: Final = {
    "sd15": "sd15",
    "ic_light_fc": "ic-light/iclight_sd15_fc.safetensors",
    "ic_light_fbc": "ic-light/iclight_sd15_fbc.safetensors",
    "rmbg": "rmbg/model.safetensors",
}
_SEED: Final = 16
_OFFSET_SCALE: Final = 0.5
"""Far more than a real offset's, so that what they see shows in pictures of random networks."""


def build(root: Path) -> list[InstalledWeight]:
    """Write the files below `root` and describe them; the same bytes on every call."""
    write_sd15(root / _PATHS["sd15"])
    _write_offset(root / _PATHS["ic_light_fc"], FOREGROUND_CHANNELS)
    _write_offset(root / _PATHS["ic_light_fbc"], BACKGROUND_CHANNELS)
    write_rmbg(root / _PATHS["rmbg"])
    return [describe(root, role, path, ["ic-light"], "facelight demo") for role, path in _PATHS.items()]


def _write_offset(file: Path, channels: int) -> None:
    with torch.device("meta"):
        shapes = narrow_unet(channels).state_dict()
    offset = {key: (_OFFSET_SCALE * value).half() for key, value in random_state(shapes, _SEED).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(offset, file)
