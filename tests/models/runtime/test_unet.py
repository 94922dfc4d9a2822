"""Our way through a UNet against diffusers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import WeightsError
from models.runtime.unet import (
    added_embedding,
    attend_to_text,
    check_supported,
    evaluate,
    repeat,
    rows_of_pictures,
    text_contexts,
    time_shifts,
)

CPU = torch.device("cpu")
SIDES = st.integers(8, 33)


@pytest.fixture(scope="session")
def networks(small_sd15: Any, small_sdxl: Any, demo_sd15: Any) -> dict[str, Any]:
    return {"small_sd15": small_sd15, "small_sdxl": small_sdxl, "demo_sd15": demo_sd15}


@pytest.mark.parametrize("kind", ["small_sd15", pytest.param("demo_sd15", marks=pytest.mark.slow)])
@settings(max_examples=20)
@given(rows=st.integers(1, 4), height=SIDES, width=SIDES, tokens=st.integers(1, 160), timestep=st.integers(0, 999))
def test_sd15_in_any_size(networks, kind, rows, height, width, tokens, timestep):
    unet, draw = networks[kind], torch.Generator().manual_seed(height)
    latents = torch.randn(rows, 8, height, width, generator=draw)
    text = torch.randn(rows, tokens, unet.config.cross_attention_dim, generator=draw)
    with torch.inference_mode():
        expected = unet(latents, timestep, encoder_hidden_states=text, return_dict=False)[0]
        shifts = time_shifts(unet, torch.tensor([999, timestep]))
        got = evaluate(unet, latents, shifts[1], text_contexts(unet, text), attend_to_text)
    assert torch.allclose(got, expected, atol=1e-5)


@settings(max_examples=20)
@given(rows=st.integers(1, 4), height=SIDES, width=SIDES, short=st.integers(1, 80), timestep=st.integers(0, 999))
def test_sdxl_in_any_size_with_texts_of_two_lengths(small_sdxl, rows, height, width, short, timestep):
    draw = torch.Generator().manual_seed(width)
    latents, text = torch.randn(rows, 4, height, width, generator=draw), torch.randn(rows, 80, 48, generator=draw)
    pooled, sizes = torch.randn(rows, 40, generator=draw), torch.randint(256, 2048, (rows, 6), generator=draw)
    mask = torch.ones(rows, 80, dtype=torch.bool)
    mask[0, short:] = False
    bias = torch.zeros(rows, 1, 1, 80).masked_fill(~mask[:, None, None], -torch.inf)
    with torch.inference_mode():
        expected = small_sdxl(
            latents,
            timestep,
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes},
            return_dict=False,
        )[0]
        added = added_embedding(small_sdxl, pooled, sizes)
        (shift,) = time_shifts(small_sdxl, torch.tensor([timestep]), added)
        got = evaluate(small_sdxl, latents, shift, text_contexts(small_sdxl, text, bias), attend_to_text)
    assert torch.allclose(got, expected, atol=1e-5)


def test_a_text_is_projected_once_for_all_its_pictures(small_sd15):
    text = torch.randn(2, 7, 48, generator=torch.Generator().manual_seed(0))
    rows = rows_of_pictures([1, 3], CPU)
    assert rows.tolist() == [0, 1, 1, 1]
    for once, repeated in zip(text_contexts(small_sd15, text), text_contexts(small_sd15, text, rows=rows), strict=True):
        assert torch.equal(repeated.key, once.key[[0, 1, 1, 1]])
        assert torch.equal(repeated.value, once.value[[0, 1, 1, 1]])


def test_rows_of_one_picture_each_stay_as_they_are():
    assert rows_of_pictures([1, 1, 1], CPU) is None
    tensor = torch.ones(3)
    assert repeat(tensor, None) is tensor


def test_the_kinds_of_both_models_are_supported(networks):
    """What is accepted is what `evaluate` computes: both kinds, though they differ in the keys that are checked."""
    for unet in networks.values():
        check_supported(unet)
    assert {unet.config["addition_embed_type"] for unet in networks.values()} == {None, "text_time"}
    assert all(unet.config["act_fn"] == "silu" for unet in networks.values())


@pytest.mark.parametrize(
    ("name", "value"), [("act_fn", "gelu"), ("class_embed_type", "timestep"), ("time_embedding_type", "fourier")]
)
def test_other_kinds_are_refused(small_sd15, name, value):
    original = small_sd15.config[name]
    small_sd15.register_to_config(**{name: value})
    try:
        with pytest.raises(WeightsError, match=name):
            check_supported(small_sd15)
    finally:
        small_sd15.register_to_config(**{name: original})
