"""The identity in cross-attention, against the formulas written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from models.errors import WeightsError
from models.pulid_lightning.adapter import Projection
from models.pulid_lightning.attention import (
    METHODS,
    NEUTRAL,
    WEIGHT,
    IdentityContext,
    Method,
    attend_with_identity,
    identity_contexts,
    layer_numbers,
)
from models.pulid_lightning.identity.encoder import Identity
from models.runtime.unet import TextContext, cross_attentions, rows_of_pictures

HEADS, WIDTH, CONTEXT = 2, 16, 12


@pytest.fixture
def attention() -> Attention:
    torch.manual_seed(0)
    layer = Attention(query_dim=WIDTH, cross_attention_dim=CONTEXT, heads=HEADS, dim_head=WIDTH // HEADS)
    return layer.requires_grad_(False)


@pytest.fixture
def identity() -> Identity:
    generator = torch.Generator().manual_seed(1)
    return Identity(*(torch.randn(1, 10, CONTEXT, generator=generator) for _ in range(2)))


@pytest.fixture
def projection() -> Projection:
    generator = torch.Generator().manual_seed(2)
    return Projection(*(torch.randn(WIDTH, CONTEXT, generator=generator) / 3 for _ in range(2)))


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 9, WIDTH, generator=generator), torch.randn(2, 7, CONTEXT, generator=generator)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of one row, head by head."""
    heads = zip(query.chunk(HEADS, -1), key.chunk(HEADS, -1), value.chunk(HEADS, -1), strict=True)
    return torch.cat([(q @ k.T / q.shape[-1] ** 0.5).softmax(-1) @ v for q, k, v in heads], -1)


def by_formula(layer, hidden, text, tokens, projection: Projection, method: Method) -> torch.Tensor:
    """Section 5 of the specification for one row."""
    query, key, value = layer.to_q(hidden), layer.to_k(text), layer.to_v(text)
    padded = torch.cat((tokens, torch.zeros(method.num_zero, CONTEXT)))
    id_key, id_value = padded @ projection.key.T, padded @ projection.value.T
    base, delta = attend(query, key, value), attend(query, id_key, id_value)
    along = (base * delta).sum(0) / (base * base).sum(0) * base
    if method.projection == "ortho":
        delta = delta - along
    if method.projection == "ortho_v2":
        share = (query @ id_key.T).softmax(-1).mean(0)[:5].sum()
        if method.body_weighting == "official":
            heads = zip(query.chunk(HEADS, -1), id_key.chunk(HEADS, -1), strict=True)
            share = sum((q @ k.T).softmax(-1)[:, :5].sum(-1, keepdim=True) for q, k in heads) / HEADS
        delta = delta + (share - 1) * along
    return layer.to_out[0](base + WEIGHT * delta)


OFFICIAL = replace(METHODS["high-fidelity"], body_weighting="official")


def context(attention, text, identity, projection, method: Method, **options) -> IdentityContext:
    """What the one layer looks at."""
    seen = TextContext(attention.to_k(text), attention.to_v(text))
    return identity_contexts([seen], [identity], [projection], [HEADS], method, **options)[0]


@pytest.mark.parametrize(
    "method", [NEUTRAL, *METHODS.values(), OFFICIAL], ids=["neutral", "fidelity", "style", "official fidelity"]
)
def test_the_formulas(attention, identity, projection, inputs, method: Method):
    hidden, text = inputs
    seen = context(attention, text, identity, projection, method)
    got = attention.to_out[0](attend_with_identity(attention.to_q(hidden), seen, HEADS))
    for row, tokens in enumerate((identity.uncond[0], identity.cond[0])):
        expected = by_formula(attention, hidden[row], text[row], tokens, projection, method)
        assert torch.allclose(got[row], expected, atol=1e-5)


def test_rows_are_unconditional_first_and_repeated(attention, identity, projection, inputs):
    rows = rows_of_pictures([3, 3], torch.device("cpu"))
    found = context(attention, inputs[1], identity, projection, METHODS["high-fidelity"], rows=rows)
    assert found.key.shape == found.value.shape == (6, 18, WIDTH)
    assert torch.allclose(found.key[2, :10], identity.uncond[0] @ projection.key.T, atol=1e-6)
    assert torch.allclose(found.value[3, :10], WEIGHT * identity.cond[0] @ projection.value.T, atol=1e-6)
    assert not found.key[:, 10:].any()


def test_without_weight_it_is_ordinary_attention(attention, identity, projection, inputs):
    hidden, text = inputs
    seen = context(attention, text, identity, projection, METHODS["high-fidelity"], weight=0.0)
    got = attention.to_out[0](attend_with_identity(attention.to_q(hidden), seen, HEADS))
    attention.set_processor(AttnProcessor2_0())
    assert torch.allclose(got, attention(hidden, encoder_hidden_states=text), atol=1e-6)


def test_the_identity_is_computed_in_the_precision_of_the_weights(attention, identity, projection, inputs):
    half = Projection(projection.key.half(), projection.value.half())
    assert context(attention, inputs[1], identity, half, NEUTRAL).key.dtype == torch.float16


@pytest.mark.parametrize("layers", [{}, {1: None, 3: None}])
def test_an_adapter_for_another_unet_is_refused(small_sdxl, layers):
    with pytest.raises(WeightsError, match=f"has {len(layers)} layers that are not the UNet's 11"):
        layer_numbers(small_sdxl, layers)


def test_layers_are_numbered_as_the_processors_are_listed(small_sdxl):
    names = list(small_sdxl.attn_processors)
    projections = dict.fromkeys(number for number, name in enumerate(names) if "attn2" in name)
    numbers = layer_numbers(small_sdxl, projections)
    found = [small_sdxl.get_submodule(names[number].removesuffix(".processor")) for number in numbers]
    assert found == cross_attentions(small_sdxl)
    assert sorted(numbers) == sorted(projections) != list(numbers)
