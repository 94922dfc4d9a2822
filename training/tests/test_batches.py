"""How the denoiser's batches are sampled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import CLIPTokenizer

from models.demo.tokenizer import write_tokenizer
from training.data.batches import Batch, Batches, TimestepShares, alphas_cumprod, last_frontal_timestep
from training.data.dataset import Examples
from training.stages.denoiser import FIRST_STAGE, LAST_STAGE

SUBJECTS, SCENES, STEPS = 5, 4, 200

Sample = Callable[[TimestepShares], list[Batch]]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Samples batches of a dataset whose latents encode the scene and the subject."""
    folder = tmp_path_factory.mktemp("words") / "tokenizer"
    write_tokenizer(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    scenes = torch.arange(SUBJECTS * SCENES)
    dataset = Examples(
        batch=8,
        targets=(scenes % SCENES).half()[:, None, None, None].expand(-1, 4, 2, 2),
        backgrounds=torch.zeros(len(scenes), 4, 2, 2),
        foregrounds=torch.arange(SUBJECTS).half()[:, None, None, None].expand(-1, 4, 2, 2),
        subjects=scenes // SCENES,
        frontal=torch.arange(SUBJECTS) * SCENES,
        prompts=[f"soft light {scene}" for scene in scenes],
        neutral=torch.ones(len(scenes), dtype=torch.bool),
    )
    sampler = Batches([dataset], tokenizer)
    return lambda shares: [sampler.sample(step, shares) for step in range(STEPS)]


@pytest.fixture(scope="module")
def batches(sample: Sample) -> list[Batch]:
    return sample(FIRST_STAGE)


def test_the_noisiest_timesteps_get_frontal_light_only(batches: list[Batch]):
    scenes = torch.cat([batch.latents[:, 0, 0, 0] for batch in batches])
    noisiest = torch.cat([batch.timesteps for batch in batches]) >= last_frontal_timestep()
    assert 0.02 < noisiest.float().mean() < 0.1
    assert scenes[noisiest].unique().tolist() == [0]
    shares = torch.stack([(scenes[~noisiest] == scene).float().mean() for scene in range(SCENES)])
    assert (shares - 1 / SCENES).abs().max() < 0.05


def test_subjects_are_sampled_uniformly(batches: list[Batch]):
    subjects = torch.cat([batch.cond_latents[:, 0, 0, 0] for batch in batches])
    shares = torch.stack([(subjects == subject).float().mean() for subject in range(SUBJECTS)])
    assert (shares - 1 / SUBJECTS).abs().max() < 0.05


def test_timesteps_that_decide_the_lights_side_are_sampled_most(batches: list[Batch]):
    timesteps = torch.cat([batch.timesteps for batch in batches])
    # Where the signal's share of the standard deviation is below about 0.3, up to where light is frontal alone.
    light_side = (timesteps < last_frontal_timestep()) & (alphas_cumprod()[timesteps].sqrt() < 0.3)
    assert 0.42 < light_side.float().mean() < 0.62
    assert (timesteps < 300).float().mean() > 0.15, "detail needs samples as well"


def test_the_last_stage_samples_more_of_the_least_noise(sample: Sample, batches: list[Batch]):
    def share(sampled: list[Batch]) -> float:
        return (torch.cat([batch.timesteps for batch in sampled]) < 60).float().mean().item()

    assert share(batches) < 0.2 < 0.3 < share(sample(LAST_STAGE))
