"""Trained files and their pins, and when the demo weights are built anew."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from models.demo import build as build_module
from models.demo.build import build, build_key
from models.demo.trained_files import (
    FILES,
    PORTRAIT_ARTISTIC,
    PORTRAIT_REALISTIC,
    PORTRAIT_UNET,
    RMBG,
    SHIPPED,
    TEXT_ENCODER,
    UNET,
    VAE,
    Trained,
    save_trained,
)
from models.demo.untrained import completed
from models.errors import WeightsError
from tests.models.demo.stand_ins import write_stand_ins

NAMES = list(FILES)
TUNED = [PORTRAIT_ARTISTIC, PORTRAIT_REALISTIC]


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    return write_stand_ins(tmp_path / "trained")


def test_the_shipped_files_are_the_pinned_ones_and_small():
    pinned = sorted(SHIPPED.pins())
    assert {VAE, UNET, TEXT_ENCODER, RMBG} <= set(pinned)
    assert sorted(path.name for path in SHIPPED.folder.glob("*.safetensors")) == pinned
    sizes = [SHIPPED.verified(name).stat().st_size for name in pinned]
    assert sum(sizes) <= 60_000_000


@pytest.mark.parametrize("name", sorted(SHIPPED.pins().keys() - set(TUNED)))
def test_the_shipped_files_have_the_architectures_keys(trained: Trained, name: str):
    shipped, expected = load_file(SHIPPED.verified(name)), load_file(trained.verified(name))
    assert shipped.keys() == expected.keys()
    assert {key: value.dtype for key, value in shipped.items()} == {key: v.dtype for key, v in expected.items()}


def test_missing_files_of_portraits_are_random_ones(trained: Trained, tmp_path: Path):
    assert completed(trained, tmp_path / "unused") is trained
    assert not (tmp_path / "unused").exists()
    for name in NAMES:
        if name.startswith("portrait_"):
            (trained.folder / name).unlink()
    trained.pin()
    found = completed(trained, tmp_path / "completed")
    assert all(found.verified(name).is_file() for name in NAMES)
    assert PORTRAIT_UNET not in trained.pins()


def test_a_saved_state_is_in_half_precision_but_for_counters(tmp_path: Path):
    state = {"weight": torch.full((3, 2), 1 / 3).T, "num_batches_tracked": torch.tensor(7)}
    save_trained(tmp_path / "file", state, scaling_factor="1.25")
    saved = load_file(tmp_path / "file")
    assert torch.equal(saved["weight"], state["weight"].half())
    assert torch.equal(saved["num_batches_tracked"], state["num_batches_tracked"])
    with safe_open(tmp_path / "file", "pt") as file:
        assert file.metadata() == {"scaling_factor": "1.25"}


def test_a_pinned_file_is_found_until_it_changes(trained: Trained):
    assert [trained.verified(name) for name in NAMES] == [trained.folder / name for name in NAMES]
    with (trained.folder / UNET).open("ab") as file:
        file.write(b"!")
    with pytest.raises(WeightsError, match=r"unet\.safetensors is damaged"):
        trained.verified(UNET)
    trained.pin()
    assert trained.verified(UNET) == trained.folder / UNET


def test_a_missing_file_is_named(trained: Trained):
    (trained.folder / VAE).unlink()
    with pytest.raises(WeightsError, match=r"vae\.safetensors is not in"):
        trained.verified(VAE)
    with pytest.raises(WeightsError, match=r"vae\.safetensors cannot be pinned"):
        trained.pin()


def test_a_file_without_a_pin_is_not_taken(trained: Trained):
    trained.lock.write_text("weights = []")
    with pytest.raises(WeightsError, match=r"rmbg\.safetensors is not in .*weights\.lock"):
        trained.verified(RMBG)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Builders that write nothing, and the folders that they were called with."""
    called: list[Path] = []
    monkeypatch.setattr("models.demo.pulid_lightning.build", lambda root, trained: called.append(root) or [])
    monkeypatch.setattr("models.demo.ic_light.build", lambda root, trained: [])
    return called


def test_a_changed_pin_is_a_reason_to_build_anew(trained: Trained, tmp_path: Path, builds: list[Path]):
    folder = tmp_path / "weights"
    assert [build(folder, trained), build(folder, trained)] == [True, False]
    with (trained.folder / RMBG).open("ab") as file:
        file.write(b"!")
    assert not build(folder, trained), "the pin is still the same"
    trained.pin()
    assert [build(folder, trained), build(folder, trained)] == [True, False]
    assert len(builds) == 2


def test_another_version_of_the_builders_is_a_reason_to_build_anew(
    trained: Trained, tmp_path: Path, builds: list[Path], monkeypatch: pytest.MonkeyPatch
):
    assert build(tmp_path / "weights", trained)
    monkeypatch.setattr(build_module, "VERSION", build_module.VERSION + 1)
    assert build(tmp_path / "weights", trained)


def test_a_changed_comment_is_no_reason_to_build_anew(trained: Trained, tmp_path: Path):
    """The key of the same builders, copied, each with a comment more."""
    copy = tmp_path / "builders"
    copy.mkdir()
    for source in Path(build_module.__file__).parent.glob("*.py"):
        (copy / source.name).write_text(source.read_text() + "# one more comment\n")
    spec = importlib.util.spec_from_file_location("copied_build", copy / "build.py")
    copied = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    assert copied.build_key(trained) == build_key(trained)


@pytest.mark.slow
def test_other_trained_files_are_a_reason_to_build_anew(trained: Trained, tmp_path: Path):
    folder = tmp_path / "weights"
    assert [build(folder, trained), build(folder, trained)] == [True, False]
    state = load_file(trained.folder / RMBG)
    save_trained(trained.folder / RMBG, {**state, "side1.bias": state["side1.bias"] + 1})
    trained.pin()
    assert build(folder, trained)
    assert torch.equal(load_file(folder / "rmbg/model.safetensors")["side1.bias"], (state["side1.bias"] + 1).float())
