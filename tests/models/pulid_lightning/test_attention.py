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
    CrossAttention,
    Method,
    SelfAttention,
    install,
    project_identity,
)
from models.pulid_lightning.identity import Identity

HEADS, WIDTH, CONTEXT = 2, 16, 12


@pytest.fixture
def attention() -> Attention:
    torch.manual_seed(0)
    layer = Attention(query_dim=WIDTH, cross_attention_dim=CONTEXT, heads=HEADS, dim_head=WIDTH // HEADS)
    layer.requires_grad_(False).set_processor(CrossAttention(1))
    return layer


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
        if method.body_share == "official":
            heads = zip(query.chunk(HEADS, -1), id_key.chunk(HEADS, -1), strict=True)
            share = sum((q @ k.T).softmax(-1)[:, :5].sum(-1, keepdim=True) for q, k in heads) / HEADS
        delta = delta + (share - 1) * along
    return layer.to_out[0](base + WEIGHT * delta)


OFFICIAL = replace(METHODS["high-fidelity"], body_share="official")


@pytest.mark.parametrize(
    "method", [NEUTRAL, *METHODS.values(), OFFICIAL], ids=["neutral", "fidelity", "style", "official fidelity"]
)
def test_the_formulas(attention, identity, projection, inputs, method: Method):
    hidden, text = inputs
    injected = project_identity(identity, {1: projection}, method, pictures=1)
    got = attention(hidden, encoder_hidden_states=text, identity=injected)
    for row, tokens in enumerate((identity.uncond[0], identity.cond[0])):
        expected = by_formula(attention, hidden[row], text[row], tokens, projection, method)
        assert torch.allclose(got[row], expected, atol=1e-5)


def test_rows_are_unconditional_first_and_repeated(identity, projection):
    key, value = project_identity(identity, {1: projection}, METHODS["high-fidelity"], pictures=3).layers[1]
    assert key.shape == value.shape == (6, 18, WIDTH)
    assert torch.allclose(key[2, :10], identity.uncond[0] @ projection.key.T, atol=1e-6)
    assert torch.allclose(value[3, :10], identity.cond[0] @ projection.value.T, atol=1e-6)
    assert not key[:, 10:].any()


@pytest.mark.parametrize("masked", [False, True])
def test_without_identity_it_is_ordinary_attention(attention, inputs, masked: bool):
    hidden, text = inputs
    mask = torch.zeros(2, 1, 7)
    mask[1, 0, 4:] = -10_000.0
    extra = {"attention_mask": mask} if masked else {}
    got = attention(hidden, encoder_hidden_states=text, **extra)
    attention.set_processor(AttnProcessor2_0())
    assert torch.allclose(got, attention(hidden, encoder_hidden_states=text, **extra), atol=1e-6)


def test_masked_text_does_not_count(attention, inputs):
    hidden, text = inputs
    mask = torch.zeros(2, 1, 7)
    mask[:, 0, 4:] = -10_000.0
    got = attention(hidden, encoder_hidden_states=text, attention_mask=mask)
    assert torch.allclose(got, attention(hidden, encoder_hidden_states=text[:, :4]), atol=1e-6)


def test_the_identity_is_computed_in_the_precision_of_the_weights(identity, projection):
    half = projection.to(torch.device("cpu"), torch.float16)
    key, _ = project_identity(identity, {1: half}, NEUTRAL, pictures=1).layers[1]
    assert key.dtype == torch.float16


class Unet:
    """As much of a UNet as `install` looks at."""

    def __init__(self) -> None:
        self.attn_processors = dict.fromkeys(["a.attn1.processor", "a.attn2.processor", "b.attn1.processor"])

    def set_attn_processor(self, processors) -> None:
        self.attn_processors = processors


def test_every_cross_attention_gets_its_layer():
    unet = Unet()
    install(unet, {1})
    kinds = [type(processor) for processor in unet.attn_processors.values()]
    assert kinds == [SelfAttention, CrossAttention, SelfAttention]
    assert unet.attn_processors["a.attn2.processor"].layer == 1


@pytest.mark.parametrize("layers", [set(), {2}, {1, 3}])
def test_an_adapter_for_another_unet_is_refused(layers: set[int]):
    with pytest.raises(WeightsError, match="the UNet's 1"):
        install(Unet(), layers)
