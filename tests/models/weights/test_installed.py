"""A folder's record, and the files that are handed out only if they are as recorded."""

from __future__ import annotations

import os
import threading
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from models.errors import WeightFileError, WeightsError
from models.weights.hashes import HashCache, sha256_of
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


@pytest.fixture
def tensors(tmp_path: Path) -> Path:
    """A folder with two .safetensors files, whose content does not matter here, and another file."""
    folder = tmp_path / "tensors"
    folder.mkdir()
    for name in ("a.safetensors", "b.safetensors", "c.json"):
        (folder / name).write_bytes(name.encode() * 300_000)
    write_installed(tmp_path, [describe(tmp_path, "one", "tensors", ["ic-light"], "MIT")], "real")
    return folder


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed from now on."""
    names: list[str] = []

    def noting(path: Path, stop: threading.Event | None = None) -> str:
        names.append(path.name)
        return sha256_of(path, stop)

    monkeypatch.setattr("models.weights.hashes.sha256_of", noting)
    return names


def test_tensors_are_hashed_while_they_are_loaded_unless_they_were(tensors: Path, monkeypatch: pytest.MonkeyPatch):
    names, hashes = hashed(monkeypatch), HashCache()
    hashes.sha256(tensors / "b.safetensors")
    weights = WeightSet.open(tensors.parent, "ic-light", hashes, defer_hashes=True)
    assert names == ["b.safetensors", "c.json"], "other files could do harm when they are read"
    with weights.verifying(hashes):
        pass
    assert names == ["b.safetensors", "c.json", "a.safetensors"]
    assert not WeightSet.open(tensors.parent, "ic-light", hashes, defer_hashes=True).unverified
    assert len(names) == 3


def test_an_altered_file_ends_a_load_that_succeeded_or_that_failed_over_it(tensors: Path):
    (tensors / "a.safetensors").write_bytes(b"x" + (tensors / "a.safetensors").read_bytes()[1:])
    hashes = HashCache()
    weights = WeightSet.open(tensors.parent, "ic-light", hashes, defer_hashes=True)
    for ending in (None, WeightFileError("a.safetensors: a strange tensor.")):
        told = pytest.raises(WeightFileError, match=r"a\.safetensors: damaged: sha256 .*facelight weights fetch")
        with told, weights.verifying(hashes):
            if ending:
                raise ending
    with pytest.raises(WeightsError, match="sha256"):
        WeightSet.open(tensors.parent, "ic-light", hashes)


def test_a_missing_or_truncated_file_is_told_before_anything_is_loaded(tensors: Path):
    (tensors / "a.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"a\.safetensors: damaged: 1 bytes where"):
        WeightSet.open(tensors.parent, "ic-light", defer_hashes=True)
    (tensors / "a.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"a\.safetensors: missing"):
        WeightSet.open(tensors.parent, "ic-light", defer_hashes=True)


def test_sound_files_leave_the_errors_of_a_load_as_they_are(tensors: Path):
    weights = WeightSet.open(tensors.parent, "ic-light", defer_hashes=True)
    with pytest.raises(WeightsError, match="lacks"), weights.verifying(HashCache()):
        raise WeightsError("it lacks tensors")


@pytest.mark.parametrize("ending", [MemoryError, SystemExit, KeyError])
def test_hashing_ends_with_a_load_that_breaks_off(tensors: Path, monkeypatch: pytest.MonkeyPatch, ending):
    begun, hashes = threading.Event(), HashCache()

    def endless(path: Path, stop: threading.Event | None = None) -> str:
        begun.set()
        assert stop is not None and stop.wait(60)
        raise CancelledError

    weights = WeightSet.open(tensors.parent, "ic-light", hashes, defer_hashes=True)
    monkeypatch.setattr("models.weights.hashes.sha256_of", endless)
    with pytest.raises(ending), weights.verifying(hashes):
        assert begun.wait(60)
        raise ending
    assert hashes.get(tensors / "a.safetensors") is None


def test_a_hash_that_is_stopped_is_none(tmp_path: Path):
    stop = threading.Event()
    stop.set()
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(CancelledError):
        sha256_of(tmp_path / "file", stop)
