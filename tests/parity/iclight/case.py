"""One case: a call of the reference, with what went in and what came out of its stages."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from models.ic_light.params import Params
from models.ic_light.pipeline import Prepared
from models.imaging.encode import encode
from models.imaging.types import Rgb
from tests.parity.iclight.golden_set import GoldenSet
from tests.parity.iclight.units import AMBIENT_LEVEL, background_gradient

_ARGUMENTS: Final = {
    "prompt": "prompt",
    "a_prompt": "appended_prompt",
    "n_prompt": "negative_prompt",
    "image_width": "width",
    "image_height": "height",
    "num_samples": "number_of_images",
    "seed": "seed",
    "steps": "steps",
    "cfg": "cfg",
    "highres_scale": "highres_scale",
    "highres_denoise": "highres_denoise",
    "lowres_denoise": "lowres_denoise",
}
"""The reference's name of each parameter, and ours."""
_UPLOADED, _MIRRORED, _AMBIENT = "Use Background Image", "Use Flipped Background Image", "Ambient"


OUTPUT: Final = r"_out(\d+)$"
"""How the name of a picture ends, before its suffix: behind the case's name, with the output's number from 0."""


@dataclass(frozen=True)
class Case:
    """`facts` is the case's JSON, `tensors` what lies beside it under the same name."""

    golden: GoldenSet
    name: str

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Arguments, schedules, tokens, draws."""
        facts: dict[str, Any] = json.loads(self._file(".json").read_text())
        return facts

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Stage inputs and outputs."""
        return load_file(self._file(".safetensors"))

    @cached_property
    def pictures(self) -> dict[int, bytes]:
        """The pictures of the result that the set has, as PNG files by number; the first must be there."""
        ending = re.compile(re.escape(self.name) + OUTPUT)
        files = {0: self._file("_out0.png")}
        for file in (self.golden.folder / "cases").glob("*.png"):
            if found := ending.match(file.stem):
                files[int(found[1])] = file
        return {number: files[number].read_bytes() for number in sorted(files)}

    def _file(self, ending: str) -> Path:
        # Never one of another set: a case is its files together.
        return self.golden.folder / "cases" / f"{self.name}{ending}"

    @property
    def sees_background(self) -> bool:
        """Whether the UNet saw a background: 4 latent channels more."""
        return self.tensors["p1.concat_conds"].shape[1] == 8

    @cached_property
    def params(self) -> Params:
        """The arguments as this project's parameters. Not validated: test pictures are smaller than served ones."""
        arguments = self.facts["args"]
        named = {ours: arguments[theirs] for theirs, ours in _ARGUMENTS.items() if theirs in arguments}
        light = "None" if self.sees_background else arguments["bg_source"]
        background = "file" if self.sees_background else None
        return Params.model_construct(subject_image="file", light_source=light, background_image=background, **named)

    @cached_property
    def background(self) -> Rgb:
        """The picture that the case has for a background."""
        source, width, height = self.facts["args"]["bg_source"], self.params.width, self.params.height
        if source == _AMBIENT:
            return np.full((height, width, 3), AMBIENT_LEVEL, dtype=np.uint8)
        if source in (_UPLOADED, _MIRRORED):
            picture = self.tensors["input_bg_u8"].numpy()
            return np.ascontiguousarray(picture[:, ::-1]) if source == _MIRRORED else picture
        return background_gradient(source, width, height)

    @cached_property
    def prepared(self) -> Prepared:
        """The case's request, prepared by the pipeline from encoded pictures."""
        images = {"subject_image": self.golden.input_file}
        if self.sees_background:
            images["background_image"] = encode(self.background, "png", 100)
        return self.golden.model.prepare(self.params, images)

    @property
    def unet(self) -> Any:
        """The UNet that the case runs through."""
        networks = self.golden.networks
        return networks.background_unet if self.sees_background else networks.unet
