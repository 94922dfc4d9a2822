"""`python -m training.portraits` end to end, with a few steps of every stage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from models.demo.pulid_lightning import build
from models.demo.trained_files import (
    PORTRAIT_ADAPTER,
    PORTRAIT_ARTISTIC,
    PORTRAIT_REALISTIC,
    PORTRAIT_TEXT,
    PORTRAIT_UNET,
    SHIPPED,
    Trained,
)

REPOSITORY = Path(__file__).parents[3]
FILES = (PORTRAIT_UNET, PORTRAIT_TEXT, PORTRAIT_ADAPTER, PORTRAIT_ARTISTIC, PORTRAIT_REALISTIC)


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training.portraits", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    ended = train("--smoke", "--work", folder / "work", "--out", folder / "out")
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Trained:
    return Trained(folder / "out", folder / "out" / SHIPPED.lock.name)


def test_every_file_is_trained_finite_and_pinned(trained: Trained):
    for name in FILES:
        assert all(tensor.isfinite().all() for tensor in load_file(trained.verified(name)).values()), name


def test_the_files_build_demo_weights(trained: Trained, tmp_path: Path):
    assert {role.role for role in build(tmp_path, trained)} >= {"sdxl_checkpoint_default", "pulid_adapter"}


def test_every_stage_is_logged(folder: Path):
    log = (folder / "out" / "portraits.log").read_text()
    for stage in ("positions", "text", "scenes", "denoiser", "artistic", "realistic"):
        assert f"{stage}: done in" in log


def test_the_two_hands_change_the_last_block_alone(trained: Trained):
    default = load_file(trained.folder / PORTRAIT_UNET)
    for name in (PORTRAIT_ARTISTIC, PORTRAIT_REALISTIC):
        tuned = load_file(trained.folder / name)
        assert tuned
        assert all(key.startswith("up_blocks.4.") and not default[key].equal(value) for key, value in tuned.items())


def test_the_shipped_files_stay_as_they_are(trained: Trained):
    shipped = SHIPPED.pins()
    assert trained.pins()[PORTRAIT_UNET] != shipped.get(PORTRAIT_UNET)
    assert all(SHIPPED.verified(name) for name in shipped)


def test_an_interrupted_run_ends_with_the_same_weights(folder: Path, trained: Trained):
    before = {name: (trained.folder / name).read_bytes() for name in FILES}
    (folder / "work" / "portraits").unlink()
    ended = train("--smoke", "--work", folder / "work", "--out", folder / "out")
    assert ended.returncode == 0, ended.stderr
    assert "text: resumes at step 3" in (folder / "out" / "portraits.log").read_text()
    assert {name: (trained.folder / name).read_bytes() for name in FILES} == before


def test_smoke_weights_never_overwrite_the_shipped_ones():
    ended = train("--smoke")
    assert ended.returncode == 2
    assert "--smoke needs --out" in ended.stderr
