"""One golden vector: tensors in NAME.safetensors, facts in NAME.json."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from tests.parity.report import Row, close

_RECIPE_SEED: Final = 20240509


@dataclass(frozen=True)
class Vector:
    """The files whose path without suffix is `path`, and the device to check on. Reading may raise `OSError`."""

    path: Path
    device: torch.device

    @property
    def tensor_file(self) -> Path:
        """Where the tensors are."""
        return Path(f"{self.path}.safetensors")

    @cached_property
    def facts(self) -> Any:
        """What the .json says; where it is silent or absent, what the header of the .safetensors says."""
        file = Path(f"{self.path}.json")
        facts = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return {**self._header, **facts} if isinstance(facts, dict) else facts

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor, on the device."""
        with safe_open(self.tensor_file, "pt") as file:
            return {key: file.get_tensor(key).to(self.device) for key in file.keys()}  # noqa: SIM118  # no mapping

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name begins with `prefix`, without it."""
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    def close(self, name: str, got: Any, expected: Any = None) -> Row:
        """Compare with the golden tensor `name`, or with `expected`, within the vector's own tolerances."""
        golden = self.tensors[name] if expected is None else expected
        return close(name, got, golden, float(self.facts["rtol"]), float(self.facts["atol"]))

    def number(self, pattern: str, default: int) -> int:
        """The whole number that `pattern` captures in the vector's description."""
        match = re.search(pattern, self.facts.get("what", ""))
        return int(match[1]) if match else default

    @property
    def recipe(self) -> Recipe:
        """How this vector's own weights and inputs are made."""
        return Recipe(int(self.facts.get("recipe_seed", _RECIPE_SEED)))

    @cached_property
    def _header(self) -> dict[str, Any]:
        if not self.tensor_file.is_file():
            return {}
        with safe_open(self.tensor_file, "pt") as file:
            return {key: _parsed(value) for key, value in (file.metadata() or {}).items()}


@dataclass(frozen=True)
class Recipe:
    """Weights and inputs that are too big to store: each is drawn from a seed and its own name."""

    seed: int

    def weight(self, key: str, shape: tuple[int, ...] | list[int]) -> Tensor:
        """The tensor of a state dict: scaled by its fan-in, or near one for norms' weights, or small."""
        drawn = self._draw(key, shape)
        if drawn.ndim >= 2:
            drawn *= np.float32(1 / np.sqrt(np.prod(shape[1:])))
        elif key.endswith("weight"):
            drawn = 1 + np.float32(0.1) * drawn
        else:
            drawn *= np.float32(0.1)
        return torch.from_numpy(drawn)

    def weights(self, shapes: dict[str, list[int]], prefix: str = "") -> dict[str, Tensor]:
        """A state dict of these shapes; tensors are drawn by their name behind `prefix`."""
        return {key: self.weight(prefix + key, shape) for key, shape in shapes.items()}

    def input(self, name: str, shape: tuple[int, ...] | list[int], scale: float = 1.0) -> Tensor:
        """An input of a network."""
        return torch.from_numpy(self._draw(f"input:{name}", shape, scale))

    def _draw(self, name: str, shape: tuple[int, ...] | list[int], scale: float = 1.0) -> np.ndarray:
        generator = np.random.RandomState(zlib.crc32(name.encode()) ^ self.seed)
        return (generator.standard_normal(shape) * scale).astype(np.float32)


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
