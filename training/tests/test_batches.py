"""What the denoiser's batches are drawn from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import CLIPTokenizer

from models.demo.tokenizer import write_tokenizer
from training.data.batches import Batch, Batches, Emphasis, alphas_cumprod, last_frontal_timestep
from training.data.dataset import Examples
from training.stages.denoiser import AT_FIRST, AT_LAST

SUBJECTS, SCENES, STEPS = 5, 4, 200

Draw = Callable[[Emphasis], list[Batch]]


@pytest.fixture(scope="module")
def draw(tmp_path_factory: pytest.TempPathFactory) -> Draw:
    """Draws batches of a pool whose latents say which scene of which subject they are."""
    folder = tmp_path_factory.mktemp("words") / "tokenizer"
    write_tokenizer(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    scenes = torch.arange(SUBJECTS * SCENES)
    pool = Examples(
        batch=8,
        targets=(scenes % SCENES).half()[:, None, None, None].expand(-1, 4, 2, 2),
        backgrounds=torch.zeros(len(scenes), 4, 2, 2),
        foregrounds=torch.arange(SUBJECTS).half()[:, None, None, None].expand(-1, 4, 2, 2),
        subjects=scenes // SCENES,
        frontal=torch.arange(SUBJECTS) * SCENES,
        prompts=[f"soft light {scene}" for scene in scenes],
        neutral=torch.ones(len(scenes), dtype=torch.bool),
    )
    drawn = Batches([pool], tokenizer)
    return lambda emphasis: [drawn.draw(step, emphasis) for step in range(STEPS)]


@pytest.fixture(scope="module")
def batches(draw: Draw) -> list[Batch]:
    return draw(AT_FIRST)


def test_the_noisiest_levels_learn_frontal_light_alone(batches: list[Batch]):
    scenes = torch.cat([batch.latents[:, 0, 0, 0] for batch in batches])
    noisiest = torch.cat([batch.timesteps for batch in batches]) >= last_frontal_timestep()
    assert 0.02 < noisiest.float().mean() < 0.1
    assert scenes[noisiest].unique().tolist() == [0]
    shares = torch.stack([(scenes[~noisiest] == scene).float().mean() for scene in range(SCENES)])
    assert (shares - 1 / SCENES).abs().max() < 0.05


def test_every_subject_is_drawn_as_often(batches: list[Batch]):
    subjects = torch.cat([batch.seen[:, 0, 0, 0] for batch in batches])
    shares = torch.stack([(subjects == subject).float().mean() for subject in range(SUBJECTS)])
    assert (shares - 1 / SUBJECTS).abs().max() < 0.05


def test_the_levels_at_which_the_lights_side_is_settled_are_learned_most(batches: list[Batch]):
    timesteps = torch.cat([batch.timesteps for batch in batches])
    # Where the signal's share of the standard deviation is below about 0.3, up to where light is frontal alone.
    settling = (timesteps < last_frontal_timestep()) & (alphas_cumprod()[timesteps].sqrt() < 0.3)
    assert 0.42 < settling.float().mean() < 0.62
    assert (timesteps < 300).float().mean() > 0.15, "detail is learned too"


def test_at_last_much_is_learned_of_the_least_noise(draw: Draw, batches: list[Batch]):
    def share(drawn: list[Batch]) -> float:
        return (torch.cat([batch.timesteps for batch in drawn]) < 60).float().mean().item()

    assert share(batches) < 0.2 < 0.3 < share(draw(AT_LAST))
