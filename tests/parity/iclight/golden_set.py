"""One folder of IC-Light golden files, with the networks that its weights make."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.ic_light.conditioning import composite_on_grey, to_rgb
from models.ic_light.networks import Networks, load_networks
from models.ic_light.options import Options
from models.ic_light.pipeline import IcLight
from models.imaging.decode import decode
from models.runtime.precision import FULL_PRECISION
from models.weights.installed import WeightSet

KEPT: Final = Path(__file__).parents[2] / "golden" / "iclight"
"""The set in this repository: what another set lacks is taken from here."""
_REQUIRED: Final = {
    "sd15": "weights/sd15*",
    "ic_light_fc": "weights/*_fc.safetensors",
    "rmbg": "weights/rmbg*/model.safetensors",
}
_OPTIONAL: Final = {"ic_light_fbc": "weights/*_fbc.safetensors"}


@dataclass(frozen=True)
class GoldenSet:
    """A folder with any of `cases/`, `unit/`, `weights/` and `input_*.png`."""

    folder: Path
    device: torch.device

    def find(self, pattern: str) -> Path:
        """The first file that fits, in this set or else in the kept one; raises `FileNotFoundError`."""
        for folder in (self.folder, KEPT):
            if found := sorted(folder.glob(pattern)):
                return found[0]
        raise FileNotFoundError(f"there is no {pattern}")

    def json(self, pattern: str) -> Any:
        """The content of the JSON file that `find` finds."""
        return json.loads(self.find(pattern).read_text())

    def tensors(self, pattern: str) -> dict[str, Tensor]:
        """The tensors of the safetensors file that `find` finds."""
        return load_file(self.find(pattern))

    @cached_property
    def weights(self) -> WeightSet:
        """The set's weights by role; the 12-channel offset may be absent."""
        paths = {role: self.find(pattern) for role, pattern in _REQUIRED.items()}
        for role, pattern in _OPTIONAL.items():
            if any(True for folder in (self.folder, KEPT) for _ in folder.glob(pattern)):
                paths[role] = self.find(pattern)
        return WeightSet("real", paths)

    @cached_property
    def networks(self) -> Networks:
        """The set's networks in float32, as the golden values were made."""
        return load_networks(self.weights, self.device, FULL_PRECISION)

    @cached_property
    def model(self) -> IcLight:
        """The whole pipeline, with the random numbers of the CPU, as the golden values have them."""
        return IcLight(self.networks, Options(cpu_noise=True))

    @cached_property
    def input_file(self) -> bytes:
        """The subject of all cases, as a caller would send it."""
        return self.find("input_*.png").read_bytes()

    @cached_property
    def picture(self) -> Tensor:
        """The subject in RGB, [height, width, 3] of 8 bits."""
        return torch.from_numpy(to_rgb(decode(self.input_file)))

    @cached_property
    def alpha(self) -> Tensor:
        """The subject's alpha by this project's matting: [height, width, 1]."""
        matting = self.networks.matting
        height, width = self.picture.shape[:2]
        return matting.alpha(matting.to_feed(self.picture), width, height)

    def composite(self, sigma: float = 0.0) -> Tensor:
        """The subject on grey by this alpha."""
        return composite_on_grey(self.picture.to(self.device), self.alpha, sigma)
