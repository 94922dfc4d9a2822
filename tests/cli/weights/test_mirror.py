"""From a machine with a network to one without, by way of a folder."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from cli.weights.download import Network
from cli.weights.fetch import Report, fetch
from cli.weights.mirror import SUMS_NAME, Mirror, fill_mirror
from models.errors import WeightsError
from models.weights.hashes import HashCache
from models.weights.lock import Weight
from tests.cli.weights.hub import Hub, sha256
from tests.cli.weights.making import DATA, on_hub, on_server


@pytest.fixture
def weights(hub: Hub) -> list[Weight]:
    unpinned = on_hub(hub, "two", b"{}", pinned=False), on_server(hub, "three", DATA[1:], pinned=False)
    return [on_hub(hub, "one"), *unpinned]


@pytest.fixture
def mirror(weights: list[Weight], network: Network, tmp_path: Path) -> Path:
    root = tmp_path / "mirror"
    root.mkdir()
    report = fill_mirror(weights, root, network, io.StringIO())
    assert len(report.completed) == 3 and not report.failures
    return root


def install(weights: list[Weight], mirror: Path, root: Path) -> Report:
    root.mkdir()
    return fetch(weights, root, HashCache(), Mirror(mirror), io.StringIO())


def test_a_mirror_is_laid_out_by_origin(mirror: Path):
    files = {path.relative_to(mirror).as_posix() for path in mirror.rglob("*") if path.is_file()}
    assert files == {
        SUMS_NAME,
        "some/repo/main/one.safetensors",
        "some/repo/main/two.safetensors",
        "127.0.0.2/files/three.onnx",
    }
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS_NAME], cwd=mirror, capture_output=True, text=True
    )
    assert checked.returncode == 0 and checked.stdout.count(": OK") == 3


def test_a_filled_mirror_is_left_alone(mirror: Path, weights: list[Weight], network: Network, hub: Hub):
    hub.forget()
    assert fill_mirror(weights, mirror, network, io.StringIO()) == Report([], [])
    assert hub.sent() == 0


def test_a_damaged_copy_is_replaced(mirror: Path, weights: list[Weight], network: Network):
    (mirror / "some/repo/main/one.safetensors").write_bytes(b"damage")
    assert fill_mirror(weights, mirror, network, io.StringIO()) == Report(["one: one.safetensors"], [])
    assert (mirror / "some/repo/main/one.safetensors").read_bytes() == DATA


def test_a_machine_without_a_network_installs_from_it(mirror: Path, weights: list[Weight], hub: Hub, tmp_path: Path):
    hub.forget()
    report = install(weights, mirror, tmp_path / "weights")
    assert sorted(report.completed) == ["one", "three", "two"] and not report.failures
    assert hub.seen == []
    assert (tmp_path / "weights/one/one.safetensors").read_bytes() == DATA


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_byte_that_flipped_on_the_way_is_found(mirror: Path, weights: list[Weight], tmp_path: Path, name: str):
    copy = mirror / f"some/repo/main/{name}.safetensors"
    copy.write_bytes(b"x" + copy.read_bytes()[1:])
    report = install(weights, mirror, tmp_path / "weights")
    assert name not in report.completed and len(report.completed) == 2
    assert f"{name}: {name}.safetensors came damaged: sha256 {sha256(copy.read_bytes())}" in report.failures[0]


def test_a_file_that_was_not_carried_is_named_with_its_place(mirror: Path, weights: list[Weight], tmp_path: Path):
    (mirror / "127.0.0.2/files/three.onnx").unlink()
    (failure,) = install(weights, mirror, tmp_path / "weights").failures
    assert failure.startswith("three: three.onnx is not in the mirror: ") and "127.0.0.2/files/three.onnx" in failure


def test_nothing_is_taken_on_trust(mirror: Path, weights: list[Weight], tmp_path: Path):
    (mirror / SUMS_NAME).unlink()
    report = install(weights, mirror, tmp_path / "weights")
    assert report.completed == ["one"], "the lock itself knows its hash"
    assert all("cannot be verified: neither the lock nor" in failure for failure in report.failures)


def test_a_file_fetched_by_hand_may_be_put_there(hub: Hub, tmp_path: Path):
    place = tmp_path / "mirror/127.0.0.2/files"
    place.mkdir(parents=True)
    (place / "one.onnx").write_bytes(DATA)
    assert install([on_server(hub, "one")], tmp_path / "mirror", tmp_path / "weights") == Report(["one"], [])


def test_a_mirror_that_is_not_there(tmp_path: Path):
    with pytest.raises(WeightsError, match="is not a folder"):
        Mirror(tmp_path / "nothing")
