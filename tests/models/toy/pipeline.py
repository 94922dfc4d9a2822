"""The pipeline of `toy`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.imaging.decode import decode, to_pixels
from models.model import MemoryNeed
from models.pipeline import OnStep, Outcome, Pipeline
from models.weights.installed import WeightSet

from .options import Options
from .params import Params


@dataclass(frozen=True)
class Prepared:
    """`pixels`: uint8 [height, width, 3]."""

    params: Params
    pixels: torch.Tensor


class Toy(Pipeline[Params, Prepared]):
    """Inverts pictures."""

    def __init__(self, white: int) -> None:
        self._white = white

    @property
    def variants(self) -> tuple[str, ...]:
        return Params.variants

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> Prepared:
        picture = decode(images["image"]).convert("RGB").resize(params.output_size)
        return Prepared(params, torch.from_numpy(np.array(to_pixels(picture))))

    def batch_key(self, prepared: Prepared) -> Hashable:
        return prepared.params.mode

    def run(self, batch: Sequence[Prepared], on_step: OnStep) -> list[Outcome]:
        results: list[Outcome] = []
        for request in batch:
            inverted = (255 - request.pixels).clip(max=self._white)
            if request.params.mode == "grey":
                inverted = inverted.float().mean(-1, keepdim=True).expand(-1, -1, 3).to(torch.uint8)
            results.append(inverted[None].repeat(request.params.number_of_images, 1, 1, 1).numpy())
        on_step(1, 1)
        return results


def unused_roles(_options: Options) -> set[str]:
    """It has no weights."""
    return set()


def memory_needs(_weights: WeightSet, _device: torch.device, _options: Options) -> list[MemoryNeed]:
    """It is nothing but code."""
    return []


def load(_weights: WeightSet, _device: torch.device, options: Options) -> Toy:
    """Nothing is read from files."""
    return Toy(options.toy_white)
