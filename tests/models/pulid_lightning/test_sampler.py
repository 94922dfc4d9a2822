"""DPM++ SDE on Karras sigmas."""

from __future__ import annotations

import pytest
import torch

from models.pulid_lightning.sampler import (
    PrecomputedNoise,
    initial_latents,
    karras_sigmas,
    precompute_noise,
    sample,
    sigma_steps,
    timestep_of,
    training_sigmas,
)

SIGMAS = karras_sigmas(4)
SHAPE = (1, 4, 16, 16)


def ignore(step: int, total: int) -> None:
    pass


def run(denoise, shape=SHAPE, seed=7, on_step=ignore):
    latents = initial_latents(shape, seed, SIGMAS[0])
    noise = PrecomputedNoise(sigma_steps(SIGMAS), lambda: precompute_noise(shape, seed, SIGMAS))
    return sample(denoise, latents, SIGMAS, noise, on_step)


def toy(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The best guess for latents of unit variance."""
    return x / (1 + sigma**2)


def test_sigmas_are_those_of_the_specification():
    assert SIGMAS.tolist() == pytest.approx([14.614643, 3.168605, 0.446919, 0.029167, 0], rel=1e-5)
    assert training_sigmas().shape == (1000,)


def test_evaluations_are_where_the_specification_has_them():
    seen = []
    run(lambda x, sigma: seen.append(timestep_of(sigma)) or toy(x, sigma))
    assert seen == [999, 860, 687, 407, 146, 14, 0]


def test_noise_is_awaited_after_the_first_evaluation():
    events = []

    def noise() -> torch.Tensor:
        events.append("noise")
        return precompute_noise(SHAPE, 7, SIGMAS)

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        events.append("evaluation")
        return toy(x, sigma)

    latents = initial_latents(SHAPE, 7, SIGMAS[0])
    sample(denoise, latents, SIGMAS, PrecomputedNoise(sigma_steps(SIGMAS), noise), ignore)
    assert events == ["evaluation", "noise", *["evaluation"] * 6]


def test_every_evaluation_is_reported():
    steps = []
    run(toy, on_step=lambda step, total: steps.append((step, total)))
    assert steps == [(step, 7) for step in range(1, 8)]


def test_an_exception_of_the_callback_passes():
    def stop(step: int, total: int) -> None:
        if step == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        run(toy, on_step=stop)


def test_a_model_that_knows_the_answer_is_believed():
    answer = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    assert torch.equal(run(lambda x, sigma: answer), answer)


def test_latents_begin_at_the_largest_sigma():
    latents = initial_latents((1, 4, 128, 128), 3, SIGMAS[0])
    assert latents.std().item() == pytest.approx(14.6488, rel=0.01)


def test_noise_stays_at_the_level_of_sigma():
    """With nothing to denoise the latents are pure noise at each sigma: the sampler neither adds nor loses any."""
    spread = []
    run(lambda x, sigma: spread.append((x.std() / (1 + sigma**2).sqrt()).item()) or toy(x, sigma), (1, 4, 64, 64))
    assert spread == pytest.approx([1] * 7, abs=0.25)


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**53 - 1])
def test_a_seed_means_one_picture(seed: int):
    first, second = run(toy, seed=seed), run(toy, seed=seed)
    assert torch.equal(first, second)
    assert not torch.equal(first, run(toy, seed=seed ^ 1))


def test_the_path_looks_at_all_bits_of_a_seed_and_the_first_noise_at_32():
    """As the documentation says."""
    seeds = (7, 7 + 2**32)
    first, second = (initial_latents((1, 4, 8, 8), seed, SIGMAS[0]) for seed in seeds)
    assert torch.equal(first, second)
    assert not torch.equal(*(precompute_noise((1, 4, 8, 8), seed, SIGMAS) for seed in seeds))


def test_pictures_of_a_batch_do_not_depend_on_its_size():
    assert torch.equal(run(toy, (3, 4, 16, 16))[:1], run(toy))
