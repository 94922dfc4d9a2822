"""`facelight accept` from end to end, on a live server with demo weights."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cli.accept.checks.identity import cosine
from cli.accept.local_weights import read_local_weights
from cli.accept.photos import ASTRONAUT, CAT
from models.weights.installed import Installed, InstalledWeight, read_installed, write_installed
from tests.cli.accept.pictures import brightened
from tests.live_server import FACELIGHT, LiveServer, free_port
from workers.engine.model_loader import weights_folder, with_demo_weights
from workers.settings import WorkerSettings


def accept(port: int, weights: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command against the server at `port`, as an operator does on the worker's host."""
    own = {"FACELIGHT_PORT": str(port), "FACELIGHT_WEIGHTS_DIR": str(weights), "OMP_WAIT_POLICY": "passive"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FACELIGHT_")} | own
    return subprocess.run([FACELIGHT, "accept", *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_run_on_demo_weights_ends_with_its_page(live: LiveServer, demo_weights: Path, tmp_path: Path):
    run = accept(int(live.url.rpartition(":")[2]), demo_weights, "--quick", "--out", str(tmp_path))
    assert run.returncode == 0, run.stderr
    text = (tmp_path / "index.html").read_text()
    assert run.stdout.splitlines()[-1].startswith("Runs; not all checked: ")
    assert "failed" not in run.stdout
    assert "Cannot be checked on demo weights" in text
    for title in ("Checkpoint realistic, stylized", "A tabby cat, lit from four sides", "Seconds per request"):
        assert title in text
    assert {weight.name for weight in read_installed(demo_weights).weights if weight.name not in text} == set()
    assert len(list((tmp_path / "pictures").iterdir())) == 24


def test_an_unreachable_server_is_status_2(demo_weights: Path, tmp_path: Path):
    run = accept(free_port(), demo_weights, "--out", str(tmp_path))
    assert run.returncode == 2
    assert run.stderr.startswith("facelight: http://127.0.0.1:")
    assert len(run.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_model_is_status_2(live: LiveServer, demo_weights: Path, tmp_path: Path):
    run = accept(int(live.url.rpartition(":")[2]), demo_weights, "--only", "flux", "--out", str(tmp_path))
    assert run.returncode == 2
    assert "There is no model 'flux'" in run.stderr


@pytest.fixture
def as_if_real(demo_weights: Path, tmp_path: Path) -> Path:
    """A folder that says it holds real weights: the demo recogniser, whose likenesses mean little, but which runs."""
    weight = recogniser_in(read_installed(demo_weights))
    (tmp_path / weight.path).parent.mkdir(parents=True)
    (tmp_path / weight.path).symlink_to(demo_weights / weight.path)
    write_installed(tmp_path, [weight], "real")
    return tmp_path


def recogniser_in(record: Installed) -> InstalledWeight:
    return next(weight for weight in record.weights if weight.role == "face_analysis")


@pytest.mark.slow
def test_the_recogniser_of_real_weights_describes_faces(as_if_real: Path):
    local = read_local_weights(as_if_real, {"real"})
    assert [role for role, _, _ in local.listed] == ["face_analysis"]
    assert callable(local.recogniser)
    photo = local.recogniser(ASTRONAUT.pixels())
    assert cosine(photo, local.recogniser(brightened(ASTRONAUT.pixels(), 1.1))) > 0.9
    assert local.recogniser(CAT.pixels()) is None


def test_a_recogniser_with_another_hash_is_not_loaded(as_if_real: Path):
    weight = recogniser_in(read_installed(as_if_real))
    damaged = weight.files[0].model_copy(update={"sha256": "0" * 64})
    write_installed(as_if_real, [weight.model_copy(update={"files": [damaged]})], "real")
    local = read_local_weights(as_if_real, {"real"})
    assert isinstance(local.recogniser, str)
    assert ": damaged: sha256 " in local.recogniser


def test_a_folder_that_is_not_the_servers_is_not_used(demo_weights: Path, tmp_path: Path):
    for folder in (demo_weights, tmp_path):
        local = read_local_weights(folder, {"real"})
        assert local.listed == ()
        assert "run it on the worker's host" in str(local.recogniser)
    assert len(read_local_weights(demo_weights, {"demo"}).listed) > 5


def test_the_weights_folder_is_the_workers(tmp_path: Path):
    settings = with_demo_weights(WorkerSettings(data_dir=tmp_path))
    assert weights_folder(settings) == tmp_path / "weights" / "demo"
    (tmp_path / "weights" / "real").mkdir(parents=True)
    write_installed(tmp_path / "weights" / "real", [], "real")
    assert weights_folder(settings) == tmp_path / "weights" / "real"
    assert weights_folder(WorkerSettings(data_dir=tmp_path, weights_dir=tmp_path / "own")) == tmp_path / "own"
