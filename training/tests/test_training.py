"""`python -m training` end to end, with a few steps of every stage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from models.demo.trained_files import RMBG, SHIPPED, TEXT_ENCODER, UNET, VAE, Trained
from models.weights.installed import read_installed
from training import __main__ as command
from training.__main__ import main
from training.evaluation.goals import FIGURES_FILE, RESULTS, read_figures, table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1000)]
FILES = (VAE, UNET, TEXT_ENCODER, RMBG)


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", "--work", folder / "work", *arguments],
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    ended = train(folder, "--smoke", "--out", str(folder / "out"))
    assert ended.returncode == 0, ended.stderr
    return folder


def test_every_file_is_trained_pinned_and_built(folder: Path):
    trained = Trained(folder / "out", folder / "out" / "weights.lock")
    assert {name: trained.verified(name).is_file() for name in FILES} == dict.fromkeys(FILES, True)
    assert read_installed(folder / "work" / "weights").kind == "demo"


def test_out_leaves_the_shipped_files_unchanged(folder: Path):
    assert SHIPPED.folder not in (folder / "out").parents
    shipped = SHIPPED.pins()
    assert shipped != Trained(folder / "out", folder / "out" / "weights.lock").pins()
    assert all(SHIPPED.verified(name) for name in shipped)


def test_figures_and_log_are_written(folder: Path):
    figures = json.loads((folder / "out" / "figures.json").read_text())
    log = (folder / "out" / "training.log").read_text()
    assert figures["shortened"] is True
    assert {"light", "round_trips", "words", "noise"} <= figures.keys()
    for part in ("autoencoder", "denoiser", "matting", "figures"):
        assert f"{part}: done in" in log


def test_the_shipped_log_holds_the_shipped_figures():
    log = (RESULTS / "training.log").read_text()
    assert table(read_figures(RESULTS / FIGURES_FILE)) in log


def test_an_interrupted_run_resumes_and_ends_with_the_same_weights(folder: Path):
    before = {name: (folder / "out" / name).read_bytes() for name in FILES}
    for checkpoint in ("denoiser", "last_noise", RMBG):
        (folder / "work" / checkpoint).unlink()
    ended = train(folder, "--smoke", "--out", str(folder / "out"))
    assert ended.returncode == 0, ended.stderr
    again = (folder / "out" / "training.log").read_text().split("torch ")[-1]
    assert "autoencoder: resumes at step 3" in again
    assert "text: resumes at step 2" in again
    assert "denoiser: resumes" not in again
    assert {name: (folder / "out" / name).read_bytes() for name in FILES} == before


def test_smoke_weights_never_overwrite_the_shipped_ones(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ending:
        main(["--smoke"])
    assert ending.value.code == 2
    assert "--smoke needs --out" in capsys.readouterr().err


def test_the_trained_tensors_are_finite(folder: Path):
    for name in FILES:
        assert all(tensor.isfinite().all() for tensor in load_file(folder / "out" / name).values())


def test_without_out_the_shipped_files_and_results_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written = []

    def run(recipe, work, trained, results, device, log):
        written.extend((trained, results))
        log("a line")

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    main(["--work", str(tmp_path / "work")])
    assert written == [SHIPPED, tmp_path]
    assert (tmp_path / "training.log").read_text() == "a line\n"
