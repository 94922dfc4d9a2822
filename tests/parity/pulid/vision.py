"""`eva_tiny`, `eva_small`, `eva_real`: the vision tower."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from models.pulid_lightning.identity.eva_clip import VisionFeatures, load_eva_clip, normalised
from tests.parity.pulid.vector import Vector
from tests.parity.report import Row

_INPUT_SHAPE: Final = (1, 3, 336, 336)
_HEAD_DIM: Final = 16


@torch.inference_mode()
def check_small(vector: Vector) -> Iterator[Row]:
    """A tower whose weights are stored."""
    state = vector.under("sd.")
    width = state["visual.cls_token"].shape[-1]
    tower = load_eva_clip(state, vector.device, head_dim=width // vector.number(r"heads=(\d+)", width // _HEAD_DIM))
    features = tower.encode(vector.tensors.get("input.image", _drawn(vector, "eva_small_image")))
    yield from _embedding(vector, features)
    for tap, states in enumerate(features.hidden):
        yield vector.close(f"output.hidden.{tap}", states)


@torch.inference_mode()
def check_real(vector: Vector) -> Iterator[Row]:
    """The tower at full size."""
    tower = load_eva_clip(vector.recipe.weights(vector.facts["keys"]), vector.device)
    features = tower.encode(_drawn(vector, "eva_real_image"))
    yield from _embedding(vector, features)
    for tap, states in enumerate(features.hidden):
        yield from _sampled(vector, f"output.hidden.{tap}", states)


def _embedding(vector: Vector, features: VisionFeatures) -> Iterator[Row]:
    yield vector.close("output.cls", features.embedding)
    if "output.cls_normed" in vector.tensors:
        yield vector.close("output.cls_normed", normalised(features.embedding))


def _sampled(vector: Vector, name: str, states: Tensor) -> Iterator[Row]:
    yield vector.close(f"{name}.sub", states[:, ::24, ::8])
    yield vector.close(f"{name}.cls_token", states[:, 0])
    yield vector.close(f"{name}.mean", states.mean().view(vector.tensors[f"{name}.mean"].shape))
    yield vector.close(f"{name}.std", states.std().view(vector.tensors[f"{name}.std"].shape))


def _drawn(vector: Vector, name: str) -> Tensor:
    return vector.recipe.input(name, _INPUT_SHAPE).to(vector.device)
