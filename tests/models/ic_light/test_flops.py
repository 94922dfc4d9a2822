"""What a default request computes, against the least that the algorithm needs.

The whole path from parameters to pixels runs, on the meta device with networks of full size.
"""

from __future__ import annotations

import pytest
from transformers import CLIPTokenizer

from bench.full_size import ic_light as full_size
from models.ic_light.matting import RmbgMatting
from models.ic_light.networks import Networks
from models.ic_light.options import Options
from models.ic_light.params import Params
from models.ic_light.pipeline import IcLight, Prepared
from models.weights.installed import WeightSet
from tests.models.work import META, TERA, ReadAsZero, recorded, teraflops

SMALL_PAIR, LARGE_PAIR = 2 * 1.042, 2 * 2.878
ENCODE_SMALL, ENCODE_LARGE, DECODE_SMALL, DECODE_LARGE = 1.41, 3.32, 3.15, 7.25
MATTING, TEXT = 0.32, 0.013
"""TFLOP of one evaluation or call each, by the sizes of the two passes (specification section 14)."""
TEXT_KEYS = 50 * 2 * 2 * 2 * 77 * 768 * (5 * 320 + 5 * 640 + 6 * 1280) / TERA
"""Projecting both texts to keys and values in every evaluation, which is needed but once."""
MINIMUM = (
    (25 * (SMALL_PAIR + LARGE_PAIR) + ENCODE_SMALL + 2 * ENCODE_LARGE + DECODE_SMALL + DECODE_LARGE)
    + MATTING
    + 2 * TEXT
    - TEXT_KEYS
)
ROUNDING = 0.001
"""The figures above have three digits or four."""

SMALL, LARGE = (80, 64), (120, 96)
"""Height and width of the latents of the two passes."""


@pytest.fixture(scope="module")
def networks(weights: WeightSet) -> Networks:
    with META:
        return Networks(
            tokenizer=CLIPTokenizer.from_pretrained(weights["sd15"] / "tokenizer"),
            text_encoder=full_size.text_encoder(),
            unet=full_size.unet(),
            background_unet=None,
            vae=full_size.vae(),
            matting=RmbgMatting(full_size.rmbg(), META),
            device=META,
        )


@pytest.fixture(scope="module")
def model(networks: Networks) -> IcLight:
    # There is no generator of random numbers on the meta device.
    return IcLight(networks, Options(cpu_noise=True))


@pytest.fixture
def calls(networks: Networks):
    """The calls of all networks in the test, of the VAE those of its halves."""
    entries = {
        "unet": networks.unet.conv_in,
        "encode": networks.vae.encoder,
        "decode": networks.vae.decoder,
        "text": networks.text_encoder,
        "matting": networks.matting.network,
    }
    with recorded(entries) as calls:
        yield calls


def prepare(model: IcLight, photo: bytes, **changes) -> Prepared:
    return model.prepare(Params(subject_image="photo", prompt="a cup", seed=42, **changes), {"subject_image": photo})


def of_size(calls: list[tuple[int, ...]], size: tuple[int, int], pixels: int = 1) -> int:
    """How many pictures of a size in latents went through; `pixels` to a latent along each side."""
    return sum(shape[0] for shape in calls if shape[2:] == tuple(pixels * side for side in size))


@pytest.mark.slow
def test_a_default_request_does_little_more_than_it_must(model: IcLight, calls, coffee: bytes):
    prepared = prepare(model, coffee)
    work = teraflops(lambda: model.run([prepared], lambda step, total: None))
    assert (1 - ROUNDING) * MINIMUM <= work <= 1.005 * MINIMUM
    assert calls["unet"] == [(2, 8, *SMALL)] * 25 + [(2, 8, *LARGE)] * 25
    assert len(calls["encode"]) == of_size(calls["encode"], SMALL, 8) + of_size(calls["encode"], LARGE, 8) == 3
    assert of_size(calls["encode"], SMALL, 8) == 1
    assert len(calls["decode"]) == 2
    assert of_size(calls["decode"], SMALL) == of_size(calls["decode"], LARGE) == 1
    assert len(calls["matting"]) == 1
    assert sum(rows for rows, _ in calls["text"]) == 2


@pytest.mark.slow
def test_the_same_texts_are_embedded_once(model: IcLight, calls, coffee: bytes):
    with ReadAsZero():
        for _ in range(2):
            model.run([prepare(model, coffee, steps=1, negative_prompt="rain")], lambda step, total: None)
    assert len(calls["text"]) <= 2


@pytest.mark.slow
def test_a_light_source_costs_one_more_encode(model: IcLight, calls, coffee: bytes):
    assert [part.evaluations for part in prepare(model, coffee, light_source="Left Light").step_ranges] == [
        25,
        25,
    ]
    with ReadAsZero():
        model.run([prepare(model, coffee, light_source="Left Light", steps=5)], lambda step, total: None)[0]
    assert calls["unet"] == [(2, 8, *SMALL)] * 5 + [(2, 8, *LARGE)] * 5
    assert of_size(calls["encode"], SMALL, 8) == of_size(calls["encode"], LARGE, 8) == 2
    assert len(calls["decode"]) == 2
    assert len(calls["matting"]) == 1


@pytest.mark.slow
def test_without_guidance_the_unet_runs_for_one_branch(model: IcLight, calls, coffee: bytes):
    with ReadAsZero():
        model.run([prepare(model, coffee, cfg=1, steps=2)], lambda step, total: None)[0]
    assert calls["unet"] == [(1, 8, *SMALL)] * 2 + [(1, 8, *LARGE)] * 2


@pytest.mark.slow
def test_several_pictures_share_every_evaluation_and_the_matting(model: IcLight, calls, coffee: bytes):
    with ReadAsZero():
        pixels = model.run([prepare(model, coffee, number_of_images=3, steps=2)], lambda step, total: None)[0]
    assert pixels.shape == (3, 960, 768, 3)
    assert calls["unet"] == [(6, 8, *SMALL)] * 2 + [(6, 8, *LARGE)] * 2
    assert of_size(calls["encode"], SMALL, 8) == 1
    assert of_size(calls["encode"], LARGE, 8) == 1 + 3
    assert of_size(calls["decode"], SMALL) == of_size(calls["decode"], LARGE) == 3
    assert len(calls["matting"]) == 1
