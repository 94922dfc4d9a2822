"""`bisenet_real`: the face parser at full size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from models.pulid_lightning.identity.bisenet import load_bisenet
from tests.parity.pulid.vector import Vector
from tests.parity.report import Row, within

_INPUT_SHAPE: Final = (1, 3, 512, 512)
_DIFFERENT_LABELS: Final = 0.001
"""Share of the labels that may differ, by whatever number."""


@torch.inference_mode()
def check(vector: Vector) -> Iterator[Row]:
    """Logits and labels of the recipe's picture."""
    network = load_bisenet(_state(vector), vector.device)
    logits = network(vector.recipe.input("bisenet_image", _INPUT_SHAPE).to(vector.device))
    yield vector.close("logits_sub16", logits[:, :, ::16, ::16])
    labels = logits.argmax(1)[:, ::4, ::4]
    yield within("argmax_sub4", labels, vector.tensors["argmax_sub4"], logits.shape[1], share=_DIFFERENT_LABELS)


def _state(vector: Vector) -> dict[str, Tensor]:
    shapes = {key: shape for key, shape in vector.facts["keys"].items() if not key.endswith("num_batches_tracked")}
    state = vector.recipe.weights(shapes, prefix="bisenet.")
    return {key: 1 + value.abs() if key.endswith("running_var") else value for key, value in state.items()}
