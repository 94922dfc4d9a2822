"""Training of the matting network on a few small batches, and its samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from models.demo.architecture import MATTING_WIDTHS
from models.ic_light.matting import RmbgMatting
from models.ic_light.rmbg import Rmbg, widths_of
from training.data.matting_samples import sample_batch, sample_matted
from training.networks.matting_network import (
    SHRINK,
    colours_of,
    init_finest_level,
    maps_of,
    new_network,
)
from training.stages import loop, matting
from training.stages.loop import Schedule
from training.stages.matting import loss_of, train_matting

pytestmark = pytest.mark.slow

SHORT = Schedule(steps=4, rate=1e-3, warm_up=1, ema_decay=0.9)
MEGABYTES = 1.2


def ignore(_: str) -> None:
    """Discards the log."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matting")
    train_matting(folder / "rmbg.safetensors", folder, ignore, SHORT)
    return folder / "rmbg.safetensors"


def test_the_file_holds_every_key_of_the_topology_in_half_precision(trained: Path):
    state = load_file(trained)
    expected = Rmbg(MATTING_WIDTHS).state_dict()
    assert state.keys() == expected.keys()
    assert widths_of(state) == MATTING_WIDTHS
    counters = {key for key, value in state.items() if value.dtype == torch.int64}
    assert counters == {key for key in expected if key.endswith("num_batches_tracked")}
    assert all(value.dtype == torch.float16 for key, value in state.items() if key not in counters)
    assert trained.stat().st_size <= MEGABYTES * 1e6


@torch.inference_mode()
def test_the_pipelines_loader_runs_the_file(trained: Path):
    matting_network = RmbgMatting.load(trained, torch.device("cpu"))
    picture = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8))
    alpha = matting_network.alpha(matting_network.to_feed(picture), 128, 96)
    assert alpha.shape == (96, 128, 1)
    assert torch.isfinite(alpha).all()


def test_an_interrupted_training_resumes(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(seed: int, step: int, count: int, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
        if step == 3:
            raise KeyboardInterrupt
        return sample_batch(seed, step, count, width, height)

    file = tmp_path / "rmbg.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(loop, "_CHECKPOINT_EVERY", 2)
        patched.setattr(matting, "sample_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_matting(file, tmp_path, ignore, SHORT)
    assert not file.exists()
    train_matting(file, tmp_path, ignore, SHORT)
    assert file.read_bytes() == trained.read_bytes()


def test_steps_lower_the_loss_of_a_batch():
    network = new_network(3).train()
    optimiser = torch.optim.AdamW([weight for weight in network.parameters() if weight.requires_grad], lr=3e-3)
    batch = sample_batch(5, 0, 4, 96, 96)
    losses = []
    for _ in range(12):
        loss = loss_of(network, batch, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@torch.inference_mode()
def test_the_fixed_finest_level_passes_on_colours_and_the_map():
    network = new_network(4).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    init_finest_level(network)
    feed = F.interpolate(sample_batch(1, 0, 2, 48, 64)[0], scale_factor=SHRINK, mode="bicubic")
    finest = maps_of(network, colours_of(F.avg_pool2d(feed, 2)))[0]
    half = F.interpolate(finest, scale_factor=2, mode="bilinear")
    expected = F.interpolate(half, scale_factor=2, mode="bilinear").sigmoid()
    assert expected.std() > 1e-3
    torch.testing.assert_close(network(feed), expected, atol=1e-4, rtol=0)


def test_pictures_and_alphas_are_in_range_and_neither_empty_nor_full():
    pictures, alphas = sample_batch(2, 7, 24, 96, 80)
    assert pictures.shape == (24, 3, 80, 96)
    assert alphas.shape == (24, 1, 80, 96)
    assert pictures.dtype == alphas.dtype == torch.float32
    assert pictures.min() >= -1
    assert pictures.max() <= 1
    assert alphas.min() >= 0
    assert alphas.max() <= 1
    covered = alphas.mean((1, 2, 3))
    assert ((covered > 0.02) & (covered < 0.9)).all()


def test_the_batch_of_a_step_is_reproducible():
    first, again, other = (sample_batch(2, step, 2, 64, 64) for step in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_subjects_lie_nearer_to_the_centre_than_to_the_corners():
    rng = np.random.default_rng(6)
    mean = np.mean([sample_matted(rng, 64, 64)[1] for _ in range(60)], axis=0)
    corners = np.mean([mean[:12, :12], mean[:12, -12:]])
    assert mean[24:48, 24:40].mean() > 0.5 > 2 * corners
