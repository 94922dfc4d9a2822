"""`id_encoder_v1_*`, `id_former_v11_*`: from the face networks' outputs to ID tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from models.pulid_lightning.identity.encoder import IdentityEncoder, load_id_encoder, load_id_former
from models.pulid_lightning.identity.eva_clip import TAPS
from tests.parity.pulid.vector import Vector
from tests.parity.report import Row

_ID_SHAPE: Final = (1, 1280)
_HIDDEN_SHAPE: Final = (1, 577, 1024)


@torch.inference_mode()
def check_small(vector: Vector) -> Iterator[Row]:
    """Narrow encoders whose weights are stored; also several faces at once, where the vector has them."""
    state = vector.under("sd.")
    encoder = load(state, vector.device, head_dim=vector.number(r"dim_head=(\d+)", 8))
    hidden = [vector.tensors[f"input.hidden.{tap}"] for tap in range(len(TAPS))]
    yield vector.close("output", encoder(vector.tensors["input.id_cond"], hidden))
    yield _unconditional(vector, encoder, hidden[0].shape[1])
    if "output_multi" in vector.tensors:
        several = [vector.tensors[f"input_multi.hidden.{tap}"] for tap in range(len(TAPS))]
        yield vector.close("output_multi", encoder(vector.tensors["input_multi.id_cond"], several))


@torch.inference_mode()
def check_real(vector: Vector) -> Iterator[Row]:
    """Encoders at full size."""
    encoder = load(vector.recipe.weights(vector.facts["keys"]), vector.device)
    hidden = [vector.recipe.input(f"hidden.{tap}", _HIDDEN_SHAPE).to(vector.device) for tap in range(len(TAPS))]
    id_cond = vector.recipe.input("id_cond", _ID_SHAPE).to(vector.device)
    yield vector.close("output", encoder(id_cond, hidden))
    yield _unconditional(vector, encoder, _HIDDEN_SHAPE[1])


def load(state: dict[str, Tensor], device: torch.device, head_dim: int = 64) -> IdentityEncoder:
    """The project's encoder for these weights, of either version."""
    return load_id_former(state, device, head_dim) if "latents" in state else load_id_encoder(state, device)


def _unconditional(vector: Vector, encoder: IdentityEncoder, tokens: int) -> Row:
    golden = vector.tensors["output_uncond"]
    return vector.close("output_uncond", encoder(*encoder.zeros(tokens, vector.device)).expand(len(golden), -1, -1))
