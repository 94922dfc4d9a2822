"""`attn_comfy`, `attn_official`: one cross-attention with identity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from models.pulid_lightning.adapter import Projection
from models.pulid_lightning.attention import (
    METHODS,
    NEUTRAL,
    FaceStyle,
    IdentityContext,
    Method,
    OrthoMode,
    attend_with_identity,
    identity_contexts,
)
from models.pulid_lightning.identity.encoder import Identity
from models.runtime.unet import TextContext, attend_to_text, rows_of_pictures
from tests.parity.pulid.vector import Vector
from tests.parity.report import Row

LAYER: Final = 1
_FACE_STYLES: Final[dict[str, FaceStyle]] = {"style": "stylized", "fidelity": "high-fidelity"}


_HEADS: Final = 4


@torch.inference_mode()
def check_comfy(vector: Vector) -> Iterator[Row]:
    """Both branches x pictures, in either order, before and after the output projection."""
    layer = _layer(vector)
    yield vector.close("intermediate.base_attention", _plain(vector, layer)[0])
    pictures = len(vector.tensors["input.hidden_states"]) // 2
    for case in vector.facts["cases"]:
        method = replace(method_of(case["method"]), num_zero=case["num_zero"])
        context = _context(vector, layer, _ordered(vector, case), method, pictures, case["weight"])
        before, after = _run(vector, layer, context)
        yield vector.close(case["key"], after)
        yield vector.close(case["key"].replace("output.", "pre_to_out."), before)


@torch.inference_mode()
def check_official(vector: Vector) -> Iterator[Row]:
    """One unconditional and one conditional row, identities of either version."""
    layer = _layer(vector)
    yield vector.close("output.no_id", _plain(vector, layer)[1])
    for case in vector.facts["cases"]:
        embedding = "input.id_embedding_v11" if case["embedding"] == "v11" else "input.id_embedding"
        uncond, cond = vector.tensors[embedding].split(1)
        method = Method(case["num_zero"], _ortho_mask(case), body_weighting="official")
        context = _context(vector, layer, Identity(cond, uncond), method, 1, case["scale"])
        yield vector.close(case["key"], _run(vector, layer, context)[1])


def method_of(name: str) -> Method:
    """The project's method for the ComfyUI port's of this name."""
    return NEUTRAL if name == "neutral" else METHODS[_FACE_STYLES[name]]


def _ortho_mask(case: dict[str, Any]) -> OrthoMode:
    if case["ortho_v2"]:
        return "ortho_v2"
    return "ortho" if case["ortho"] else "neutral"


def _ordered(vector: Vector, case: dict[str, Any]) -> Identity:
    # The project's first rows are the unconditional ones; a vector may have them last.
    cond, uncond = vector.tensors["input.cond"], vector.tensors["input.uncond"]
    return Identity(cond, uncond) if case["cond_or_uncond"] == [1, 0] else Identity(uncond, cond)


def _projection(vector: Vector) -> Projection:
    """The layer's projection, by the names of either adapter file."""
    weights = vector.under("sd.proc.") or vector.under(f"sd.ip_adapter.{LAYER}.")
    key, value = (next(tensor for name, tensor in weights.items() if f"to_{letter}" in name) for letter in "kv")
    return Projection(key, value)


def _layer(vector: Vector) -> Attention:
    state = vector.under("sd.attn.")
    inner, query_dim = state["to_q.weight"].shape
    heads = vector.number(r"heads=(\d+)", _HEADS)
    context = state["to_k.weight"].shape[1]
    layer = Attention(query_dim=query_dim, cross_attention_dim=context, heads=heads, dim_head=inner // heads)
    layer.load_state_dict(state)
    return layer.to(vector.device)


def _text(vector: Vector, layer: Attention) -> TextContext:
    text = vector.tensors["input.encoder_hidden_states"]
    return TextContext(layer.to_k(text), layer.to_v(text))


def _context(
    vector: Vector, layer: Attention, identity: Identity, method: Method, pictures: int, weight: float
) -> IdentityContext:
    rows = rows_of_pictures([pictures] * 2, vector.device)
    texts, projections = [_text(vector, layer)], [_projection(vector)]
    return identity_contexts(texts, [identity], projections, [layer.heads], method, rows, weight)[0]


def _run(vector: Vector, layer: Attention, context: IdentityContext) -> tuple[Tensor, Tensor]:
    """What goes into the output projection, and what comes out of it."""
    before = attend_with_identity(layer.to_q(vector.tensors["input.hidden_states"]), context, layer.heads)
    return before, layer.to_out[0](before)


def _plain(vector: Vector, layer: Attention) -> tuple[Tensor, Tensor]:
    """The same without identity."""
    before = attend_to_text(layer.to_q(vector.tensors["input.hidden_states"]), _text(vector, layer), layer.heads)
    return before, layer.to_out[0](before)
