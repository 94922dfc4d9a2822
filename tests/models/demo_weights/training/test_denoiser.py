"""What the denoiser's batches are drawn from."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPTokenizer

from models.demo_weights.tokenizer import write_tokenizer
from models.demo_weights.training.denoiser import Batch, Batches, last_frontal_timestep
from models.demo_weights.training.pool import Examples

SUBJECTS, SCENES, STEPS = 5, 4, 200


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> list[Batch]:
    """Of a pool whose latents say which scene of which subject they are."""
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
    return [drawn.draw(step) for step in range(STEPS)]


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
