"""The denoise loop: branches, guidance, random draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.ic_light import sampling as denoising
from models.ic_light.networks import Networks
from models.ic_light.sampling import (
    BatchNoise,
    Conditions,
    Noise,
    denoise,
    full_range,
    make_scheduler,
    max_batch,
    predict_noise,
)
from models.runtime.unet import cross_attentions

CPU = torch.device("cpu")


class Watch:
    """Evaluates the UNet and keeps what it was given."""

    def __init__(self) -> None:
        self.inputs: list[torch.Tensor] = []
        self.keys: list[torch.Tensor] = []

    def __call__(self, unet, batch, shift, contexts):
        self.inputs.append(batch)
        self.keys.append(contexts[0].key)
        return predict_noise(unet, batch, shift, contexts)


def conditions(unet: Any, rows: int, guidance: float) -> Conditions:
    draw = torch.Generator().manual_seed(5)
    cond_latents = torch.randn(1, 4, 8, 8, generator=draw).expand(rows, -1, -1, -1)
    positive, negative = torch.randn(2, 1, 77, unet.config.cross_attention_dim, generator=draw).expand(2, rows, -1, -1)
    return Conditions(cond_latents, positive, negative, guidance)


@torch.inference_mode()
def project(networks: Networks, text: torch.Tensor) -> torch.Tensor:
    """The text's keys for the first cross-attention."""
    return cross_attentions(networks.unet)[0].to_k(text)


@torch.inference_mode()
def walk(unet, rows: int = 1, guidance: float = 2.0, steps: int = 2, predict=predict_noise) -> torch.Tensor:
    noise = Noise(3, rows, CPU)
    scheduler = make_scheduler(full_range(steps), CPU)
    start = noise.draw((8, 8), torch.float32)
    return denoise(predict, unet, scheduler, start, conditions(unet, rows, guidance), noise, lambda: None)


def test_guidance_takes_both_texts_in_one_batch_negative_first(networks: Networks):
    watch = Watch()
    walk(networks.unet, rows=2, predict=watch)
    given = conditions(networks.unet, 2, 2.0)
    assert [batch.shape for batch in watch.inputs] == [(4, 8, 8, 8)] * 2
    expected = project(networks, torch.cat((given.negative, given.positive)))
    assert torch.allclose(watch.keys[0], expected, atol=1e-5)
    assert watch.keys[0] is watch.keys[1]
    assert torch.equal(watch.inputs[0][:, 4:], given.cond_latents.repeat(2, 1, 1, 1))
    assert torch.equal(watch.inputs[0][:2], watch.inputs[0][2:])


def test_guidance_of_one_runs_the_positive_text_alone(networks: Networks):
    watch = Watch()
    walk(networks.unet, guidance=1.0, predict=watch)
    assert [batch.shape for batch in watch.inputs] == [(1, 8, 8, 8)] * 2
    assert torch.allclose(watch.keys[0], project(networks, conditions(networks.unet, 1, 1.0).positive), atol=1e-5)


def test_guidance_extrapolates_from_the_negative_to_the_positive_text(networks: Networks):
    # One step ends at x0 = (x - s eps) / a, which is linear in eps and so in the guidance.
    one, two, four = (walk(networks.unet, guidance=g, steps=1) for g in (1.0, 2.0, 4.0))
    assert torch.allclose(four - two, 2 * (two - one), atol=1e-2)
    assert not torch.allclose(one, two, atol=1e-2)


def test_every_step_draws_noise_for_all_pictures_once(networks: Networks):
    expected = Noise(3, 2, CPU)
    for _ in range(1 + 3):
        expected.draw((8, 8), torch.float32)
    noise = Noise(3, 2, CPU)
    start = noise.draw((8, 8), torch.float32)
    with torch.inference_mode():
        scheduler = make_scheduler(full_range(3), CPU)
        denoise(predict_noise, networks.unet, scheduler, start, conditions(networks.unet, 2, 2.0), noise, lambda: None)
    assert torch.equal(noise.draw((8, 8), torch.float32), expected.draw((8, 8), torch.float32))


@pytest.mark.parametrize("together", [1, 2])
def test_more_pictures_than_fit_go_in_groups_and_come_out_the_same(
    networks: Networks, monkeypatch: pytest.MonkeyPatch, together: int
):
    whole = walk(networks.unet, rows=3)
    monkeypatch.setattr(denoising, "MAX_PIXELS", together * 64 * 64)
    watch = Watch()
    assert torch.allclose(walk(networks.unet, rows=3, predict=watch), whole, rtol=1e-4, atol=1e-2)
    sizes = {1: [2, 2, 2], 2: [4, 2]}[together]
    assert [len(batch) for batch in watch.inputs] == sizes * 2


def test_noise_of_the_cpu_does_not_depend_on_the_precision_it_is_used_in():
    half, single = (Noise(3, 2, CPU).draw((8, 8), dtype) for dtype in (torch.float16, torch.float32))
    assert torch.equal(half, single.half())
    assert half.dtype == torch.float16


def test_noise_may_be_drawn_elsewhere_than_it_is_used():
    assert Noise(3, 2, torch.device("meta"), source=CPU).draw((8, 8), torch.float32).is_meta


@pytest.mark.parametrize("seed", [0, 2**31, 2**53 - 1])
def test_every_seed_has_its_own_repeatable_stream(seed: int):
    first, again, other = Noise(seed, 1, CPU), Noise(seed, 1, CPU), Noise(seed ^ 1, 1, CPU)
    draws = [noise.draw((4, 6), torch.float32) for noise in (first, again, other)]
    assert draws[0].shape == (1, 4, 4, 6)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_cpu_looks_at_the_low_32_bits_of_a_seed():
    """As the documentation says: so many different streams there are on a CPU."""
    draws = [Noise(seed, 1, CPU).draw((4, 6), torch.float32) for seed in (7, 7 + 2**32, 7 + 2**52, 8)]
    assert torch.equal(draws[0], draws[1]) and torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])


def test_streams_drawn_together_are_those_drawn_alone():
    streams = [Noise(seed, count, CPU) for seed, count in ((3, 1), (9, 2))]
    alone = [Noise(seed, count, CPU) for seed, count in ((3, 1), (9, 2))]
    together = BatchNoise(streams)
    for size in ((4, 6), (8, 8)):
        expected = torch.cat([noise.draw(size, torch.float32) for noise in alone])
        assert torch.equal(together.draw(size, torch.float32), expected)


@pytest.mark.parametrize(
    ("size", "together"), [((768, 960), 12), ((1536, 1920), 3), ((3072, 3072), 1), ((4000, 4000), 1)]
)
def test_the_largest_picture_sets_the_measure(size: tuple[int, int], together: int):
    assert max_batch(*size) == together
