"""A folder's record, and the files that are handed out only if they are as recorded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.errors import WeightsError
from models.weights.hashes import HashCache
from models.weights.installed import INSTALLED_NAME, WeightSet, describe, read_installed, write_installed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("folder/a.json", "folder/deep/b.bin", "single"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    weights = [
        describe(tmp_path, "many", "folder", ["ic-light"], "MIT"),
        describe(tmp_path, "one", "single", ["ic-light", "pulid-lightning"], "MIT", name="the-one"),
    ]
    write_installed(tmp_path, weights, "real")
    return tmp_path


def test_the_record_comes_back_as_it_was_written(root: Path):
    record = read_installed(root)
    assert record.kind == "real"
    assert [(weight.name, weight.role, len(weight.files)) for weight in record.weights] == [
        ("many", "many", 2),
        ("the-one", "one", 1),
    ]
    assert not list(root.glob(".*"))


def test_paths_are_handed_out_by_role(root: Path):
    weights = WeightSet.open(root, "ic-light")
    assert weights["many"] == root / "folder" and weights["one"] == root / "single"
    assert set(WeightSet.open(root, "pulid-lightning").paths) == {"one"}
    with pytest.raises(WeightsError, match="no role 'other'"):
        weights["other"]


@pytest.mark.parametrize("name", ["folder/a.json", "folder/deep/b.bin", "single"])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.unlink(), ": missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), ": damaged: .* bytes where"),
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), ": damaged: sha256 .* where"),
    ],
    ids=["missing", "truncated", "altered"],
)
def test_a_wrong_file_is_named(root: Path, tmp_path: Path, name: str, harm, reason: str):
    hashes = HashCache(tmp_path / "hashes.json")
    WeightSet.open(root, "ic-light", hashes)
    harm(root / name)
    if (root / name).exists():
        os.utime(root / name, ns=(1, 1))  # clocks of file systems may be too coarse to tell
    with pytest.raises(WeightsError, match=rf"{name}{reason}.*facelight weights fetch"):
        WeightSet.open(root, "ic-light", hashes)


def test_roles_that_are_skipped_are_not_looked_at(root: Path):
    (root / "folder" / "a.json").unlink()
    assert set(WeightSet.open(root, "ic-light", skip={"many"}).paths) == {"one"}


def test_a_folder_without_a_record(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"There is no installed\.toml .*facelight weights fetch"):
        WeightSet.open(tmp_path, "ic-light")


def test_a_folder_without_the_models_weights(root: Path):
    write_installed(root, [], "real")
    with pytest.raises(WeightsError, match=r"no weights for ic-light.*fetch --only ic-light"):
        WeightSet.open(root, "ic-light")


@pytest.mark.parametrize("text", ["kind = 1", "kind = 'real'\nweights = [{ path = '../x' }]", "["])
def test_a_malformed_record(root: Path, text: str):
    (root / INSTALLED_NAME).write_text(text)
    with pytest.raises(WeightsError, match=r"installed\.toml is malformed"):
        WeightSet.open(root, "ic-light")
