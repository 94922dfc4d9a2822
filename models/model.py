"""What the program knows of a model before it is loaded. Free of torch: only `Model.load` imports the model's code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from models.options import ModelOptions
from models.params import CommonParams

if TYPE_CHECKING:
    import torch

    from models.pipeline import Pipeline
    from models.weights.installed import WeightSet


@dataclass(frozen=True)
class MemoryNeed:
    """What one part of a model takes in memory once it is loaded, in bytes: on the device, and on the host besides.

    On a CPU both are the host's.
    """

    part: str
    device: int = 0
    host: int = 0


@dataclass(frozen=True)
class Model:
    """One servable model: its public name, parameters, options and where its pipeline is.

    `module`: has `load(weights, device, options)`, `memory_needs`, which takes the same, and `unused_roles(options)`.
    `demo_note`: shown wherever its demo weights are in use. `memory_hint`: which options reduce its memory, for a
    device that is too small. `adapts_to_memory`: it uses the device memory that is left, and so is loaded after the
    others. `needs_weights`: whether it has weight files at all.
    """

    slug: str
    title: str
    summary: str
    params: type[CommonParams]
    options: type[ModelOptions]
    example: dict[str, Any]
    module: str
    demo_note: str = ""
    memory_hint: str = ""
    adapts_to_memory: bool = False
    needs_weights: bool = True

    def load(self, weights: WeightSet, device: torch.device, options: ModelOptions | None = None) -> Pipeline[Any, Any]:
        """Import the pipeline and load its weights onto `device`; raises `WeightsError`.

        `options` is of the model's own class; None for the defaults.
        """
        pipeline: Pipeline[Any, Any] = import_module(self.module).load(weights, device, options or self.options())
        return pipeline

    def memory_needs(self, weights: WeightSet, device: torch.device, options: ModelOptions) -> Sequence[MemoryNeed]:
        """What `load` will take by part, from the headers of the files; raises `WeightsError`."""
        needs: Sequence[MemoryNeed] = import_module(self.module).memory_needs(weights, device, options)
        return needs

    def unused_roles(self, options: ModelOptions) -> set[str]:
        """Roles of the model's weights that `load` does not ask for with these options."""
        roles: set[str] = import_module(self.module).unused_roles(options)
        return roles
