"""PuLID's golden vectors, one module per stage: what is known by which file name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import torch

from tests.parity.pulid import (
    apply,
    attention,
    face,
    id_encoder,
    layers,
    parser,
    prompt,
    recipe,
    sampler,
    vision,
)
from tests.parity.pulid.vector import Vector
from tests.parity.report import Row

VectorCheck = Callable[[Vector], Iterable[Row]]

KINDS: Final[dict[str, VectorCheck]] = {
    "align": face.check,
    "apply_pulid": apply.check,
    "attn_comfy": attention.check_comfy,
    "attn_official": attention.check_official,
    "bisenet_real": parser.check,
    "eva_real": vision.check_real,
    "eva_small": vision.check_small,
    "eva_tiny": vision.check_small,
    "id_encoder_v1_real": id_encoder.check_real,
    "id_encoder_v1_small": id_encoder.check_small,
    "id_former_v11_real": id_encoder.check_real,
    "id_former_v11_small": id_encoder.check_small,
    "layer_index_map": layers.check,
    "prompt_tokens": prompt.check_tokens,
    "prompt_weighting": prompt.check_weighting,
    "recipe_check": recipe.check,
    "sampler_dpmpp_sde": sampler.check,
}
"""What a file is, by its name without suffix; `attn_comfy_2` and `attn_comfy.other` are known too."""


def checks(folder: Path, device: torch.device) -> Iterator[tuple[str, Callable[[], Iterable[Row]]]]:
    """One check for every vector in `folder` itself; a .safetensors file of no known kind is a failure."""
    files = [file for file in folder.iterdir() if file.suffix in {".json", ".safetensors"} and file.is_file()]
    for stem in sorted({file.stem for file in files}):
        vector = Vector(folder / stem, device)
        if kind := kind_of(stem):
            yield stem, partial(KINDS[kind], vector)
        elif vector.tensor_file.is_file():
            yield stem, _unknown


def kind_of(stem: str) -> str | None:
    """The longest known name that `stem` is, or begins with as a whole."""
    found = [kind for kind in KINDS if stem == kind or (stem.startswith(kind) and stem[len(kind)] in "._-")]
    return max(found, key=len, default=None)


def _unknown() -> Iterable[Row]:
    raise ValueError("no check is known for a file of this name")
