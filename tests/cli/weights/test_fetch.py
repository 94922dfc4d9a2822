"""A folder is filled with exactly what the lock names, whatever servers, disks and operators do."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cli.weights.download import Network
from cli.weights.fetch import Report, fetch, missing, unused_files
from cli.weights.state import installed_in, state_of
from cli.weights.transfers import PARTS, exclusive_lock
from models.errors import WeightsError
from models.weights.hashes import HashCache
from models.weights.installed import read_installed, write_installed
from models.weights.lock import Weight
from tests.cli.weights.hub import Fault, Hub, sha256
from tests.cli.weights.making import DATA, file, on_hub, on_server, weight

OTHER = DATA[::-1]
Usage = namedtuple("Usage", "total used free")


class Folder:
    """A weights folder, and what fills it."""

    def __init__(self, root: Path, network: Network) -> None:
        self.root, self.hashes, self.said = root, HashCache(), io.StringIO()
        self._network = network

    def fetch(self, *weights: Weight) -> Report:
        return fetch(weights, self.root, self.hashes, self._network, self.said, jobs=2)

    def missing(self, *weights: Weight) -> list[str]:
        return [weight.name for weight in missing(weights, self.root, self.hashes)]

    @property
    def recorded(self) -> list[str]:
        return [weight.name for weight in installed_in(self.root).weights]

    @property
    def parts(self) -> list[Path]:
        return list((self.root / PARTS).glob("*"))


@pytest.fixture
def folder(tmp_path: Path, network: Network) -> Folder:
    root = tmp_path / "weights"
    root.mkdir()
    return Folder(root, network)


def cut_off(hub: Hub, name: str) -> None:
    """Let a download begin, and fail in all attempts of `network`."""
    hub.faults[name] += [Fault(cut_after=200_000), Fault(status=500), Fault(status=500)]


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "unpinned"])
@pytest.mark.parametrize("publish", [on_hub, on_server])
def test_a_weight_is_put_into_place_and_recorded(hub: Hub, folder: Folder, publish, pinned: bool):
    entry = publish(hub, "one", pinned=pinned)
    assert folder.missing(entry) == ["one"]
    assert folder.fetch(entry) == Report(["one"], [])
    (installed,) = read_installed(folder.root).weights
    (stored,) = installed.files
    assert (stored.size, stored.sha256) == (len(DATA), sha256(DATA))
    path = folder.root / stored.path
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o644
    assert folder.missing(entry) == folder.parts == []
    assert state_of(entry, {"one": installed}, folder.root, folder.hashes) == "verified"


def test_a_small_file_of_the_hub_is_checked_by_its_git_hash(hub: Hub, folder: Folder):
    small = on_hub(hub, "small", b'{"a": 1}', pinned=False)
    assert folder.fetch(small) == Report(["small"], [])
    hub.etags["/some/repo/resolve/main/other.safetensors"] = "f" * 40
    other = on_hub(hub, "other", b'{"a": 2}', pinned=False)
    (failure,) = folder.fetch(other).failures
    assert failure.startswith("other: other.safetensors came damaged: git hash ")
    assert f"where {'f' * 40} is expected; it was deleted" in failure
    assert folder.recorded == ["small"]


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "unpinned"])
def test_a_flipped_byte_is_found_and_the_file_deleted(hub: Hub, folder: Folder, pinned: bool):
    hub.faults["one.safetensors"].append(Fault(flip=70_000))
    report = folder.fetch(on_hub(hub, "one", pinned=pinned), on_hub(hub, "two"))
    assert report.completed == ["two"]
    (failure,) = report.failures
    assert failure.startswith("one: one.safetensors came damaged: sha256 ") and sha256(DATA) in failure
    assert folder.recorded == ["two"]
    assert folder.parts == [] and not (folder.root / "one").exists()
    assert folder.fetch(on_hub(hub, "one", pinned=pinned)) == Report(["one"], [])


def test_a_truncated_file_is_found_and_deleted(hub: Hub, folder: Folder):
    hub.faults["one.onnx"].append(Fault(truncate=1000))
    (failure,) = folder.fetch(on_server(hub, "one")).failures
    assert "came with 1,000 bytes where 307,200 are expected; it was deleted" in failure
    assert folder.parts == [] and folder.recorded == []


def test_another_file_than_the_lock_names_is_not_even_fetched(hub: Hub, folder: Folder):
    entry = on_hub(hub, "one")
    hub.put("some/repo", "main", "one.safetensors", OTHER)
    (failure,) = folder.fetch(entry).failures
    assert f"is another file than the lock names: sha256 {sha256(OTHER)} where {sha256(DATA)} is expected" in failure
    assert hub.sent() == 0


def test_a_broken_transfer_is_continued_by_the_next_run(hub: Hub, folder: Folder):
    cut_off(hub, "one.safetensors")
    (failure,) = folder.fetch(on_hub(hub, "one")).failures
    assert "what has come is kept" in failure
    (part,) = folder.parts
    kept = part.stat().st_size
    assert kept > 100_000
    hub.forget()
    assert folder.fetch(on_hub(hub, "one")) == Report(["one"], [])
    assert hub.sent() == len(DATA) - kept


def test_the_beginning_of_another_edition_is_not_continued(hub: Hub, folder: Folder):
    cut_off(hub, "one.safetensors")
    folder.fetch(on_hub(hub, "one", pinned=False))
    assert folder.fetch(on_hub(hub, "one", OTHER, pinned=False)) == Report(["one"], [])
    assert (folder.root / "one/one.safetensors").read_bytes() == OTHER


def test_without_any_hash_a_file_is_begun_anew(hub: Hub, folder: Folder):
    cut_off(hub, "one.onnx")
    folder.fetch(on_server(hub, "one", pinned=False))
    assert folder.fetch(on_server(hub, "one", OTHER, pinned=False)) == Report(["one"], [])
    assert (folder.root / "one/one.onnx").read_bytes() == OTHER


def two_files(hub: Hub) -> Weight:
    for name in ("a", "b"):
        hub.put("some/repo", "main", f"{name}.bin", DATA + name.encode())
    files = [file(f"pair/{name}.bin", DATA + name.encode()) for name in ("a", "b")]
    return weight("pair", {"repo": "some/repo", "revision": "main"}, *files)


def test_of_a_damaged_weight_only_the_damaged_file_is_fetched(hub: Hub, folder: Folder):
    pair = two_files(hub)
    folder.fetch(pair)
    (folder.root / "pair/a.bin").write_bytes(b"damage")
    assert folder.missing(pair) == ["pair"]
    hub.forget()
    assert folder.fetch(pair) == Report(["pair"], [])
    assert [hub.sent("a.bin"), hub.sent("b.bin")] == [len(DATA) + 1, 0]


def test_files_that_lie_there_already_are_adopted(hub: Hub, folder: Folder):
    pair = two_files(hub)
    (folder.root / "pair").mkdir()
    for name in ("a", "b"):
        (folder.root / f"pair/{name}.bin").write_bytes(DATA + name.encode())
    assert folder.fetch(pair) == Report(["pair"], [])
    assert hub.sent() == 0
    assert folder.missing(pair) == []


def test_a_file_that_one_weight_has_twice_is_fetched_side_by_side(hub: Hub, folder: Folder):
    hub.put("some/repo", "main", "same.bin", DATA)
    files = [file("twice/1.bin", DATA, "same.bin"), file("twice/2.bin", DATA, "same.bin")]
    assert not folder.fetch(weight("twice", {"repo": "some/repo", "revision": "main"}, *files)).failures
    assert (folder.root / "twice/1.bin").read_bytes() == (folder.root / "twice/2.bin").read_bytes() == DATA


def test_a_choice_replaces_the_one_before_and_its_files_are_named(hub: Hub, folder: Folder):
    first, second = on_hub(hub, "one", role="rmbg"), on_hub(hub, "two", OTHER, role="matting_onnx_isnet")
    folder.fetch(first, on_hub(hub, "base", b"base"))
    folder.fetch(second)
    assert folder.recorded == ["base", "two"]
    assert unused_files(folder.root) == {"one/one.safetensors": len(DATA)}


def test_a_newer_lock_makes_a_weight_outdated(hub: Hub, folder: Folder):
    folder.fetch(on_hub(hub, "one"))
    newer = on_hub(hub, "one", OTHER)
    assert state_of(newer, {"one": read_installed(folder.root).weights[0]}, folder.root, folder.hashes) == "outdated"
    assert folder.missing(newer) == ["one"]
    folder.fetch(newer)
    assert (folder.root / "one/one.safetensors").read_bytes() == OTHER


def test_a_pickle_is_converted_once(hub: Hub, folder: Folder):
    torch.save({"w": torch.arange(5.0)}, out := io.BytesIO())
    hub.plain["/files/old.pth"] = out.getvalue()
    entry = weight("old", {"url": f"{hub.cdn}/files/"}, file("old.safetensors", out.getvalue(), "old.pth"))
    assert folder.fetch(entry) == Report(["old"], [])
    assert torch.equal(load_file(folder.root / "old.safetensors")["w"], torch.arange(5.0))
    (stored,) = read_installed(folder.root).weights[0].files
    assert stored.sha256 == sha256((folder.root / "old.safetensors").read_bytes())
    assert stored.published == (len(out.getvalue()), sha256(out.getvalue()))
    assert folder.missing(entry) == folder.parts == []


def test_a_pickle_in_an_archive_is_converted_too(hub: Hub, folder: Folder):
    torch.save({"state_dict": {"w": torch.arange(5.0)}}, out := io.BytesIO())
    member = file("old.safetensors", out.getvalue(), "in/old.CKPT")
    assert folder.fetch(in_archive(hub, zipped(**{"in_old.CKPT": out.getvalue()}), member)) == Report(["pack"], [])
    assert torch.equal(load_file(folder.root / "old.safetensors")["w"], torch.arange(5.0))
    (stored,) = read_installed(folder.root).weights[0].files
    assert stored.published == (len(out.getvalue()), sha256(out.getvalue()))


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "/"), data)
    return out.getvalue()


def in_archive(hub: Hub, archive: bytes, *files: dict[str, object], pinned: bool = True) -> Weight:
    hub.plain["/files/pack.zip"] = archive
    pins = {"size": len(archive), "sha256": sha256(archive)} if pinned else {}
    return weight("pack", {"url": f"{hub.cdn}/files/pack.zip", "unpack": "zip", **pins}, *files)


def test_of_an_archive_only_the_listed_members_are_written(hub: Hub, folder: Folder):
    archive = zipped(**{"in_a": DATA, "in_b": b"b", "unused": b"", ".._.._escaped": b"", "_abs": b""})
    entry = in_archive(hub, archive, file("pack/a", DATA, "in/a"), file("pack/b", None, "in/b"))
    assert folder.fetch(entry) == Report(["pack"], [])
    written = {path.relative_to(folder.root).as_posix() for path in folder.root.rglob("*") if path.is_file()}
    assert written == {"installed.toml", "pack/a", "pack/b"}
    assert not list(folder.root.parent.glob("*escaped")) and not Path("/abs").exists()
    assert folder.missing(entry) == []


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (zipped(other=DATA), "has no member in/a"),
        (zipped(in_a=DATA + b"x"), "in/a has 307,201 bytes, 307,200 are allowed"),
        (zipped(in_a=OTHER), f"in/a is damaged: .*{sha256(DATA)} is expected"),
        (b"no archive", "not a zip file"),
    ],
    ids=["unfilled", "too large", "another", "no zip"],
)
def test_a_wrong_archive_is_refused(hub: Hub, folder: Folder, archive: bytes, reason: str):
    report = folder.fetch(in_archive(hub, archive, file("pack/a", DATA, "in/a")))
    assert report.completed == []
    with pytest.raises(WeightsError, match=reason):
        raise WeightsError(*report.failures)
    assert folder.recorded == [] and not (folder.root / "pack").exists()


def test_a_full_disk_is_told_before_anything_is_fetched(hub: Hub, folder: Folder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 300_000))
    with pytest.raises(WeightsError, match=r"300\.0 kB of free space, and 614\.4 kB are needed.*FACELIGHT_WEIGHTS_DIR"):
        folder.fetch(on_hub(hub, "one"), on_hub(hub, "two", OTHER))
    assert hub.sent() == 0
    assert folder.fetch(on_hub(hub, "small", b"{}")) == Report(["small"], [])


def test_what_has_come_already_needs_no_room(hub: Hub, folder: Folder, monkeypatch: pytest.MonkeyPatch):
    cut_off(hub, "one.safetensors")
    folder.fetch(on_hub(hub, "one"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 200_000))
    assert folder.fetch(on_hub(hub, "one")) == Report(["one"], [])


def test_demo_weights_are_not_mixed_with_real_ones(hub: Hub, folder: Folder):
    write_installed(folder.root, [], "demo")
    with pytest.raises(WeightsError, match="holds demo weights"):
        folder.missing(on_hub(hub, "one"))


def test_a_folder_is_filled_by_one_process_at_a_time(tmp_path: Path):
    with (
        exclusive_lock(tmp_path / "new"),
        pytest.raises(WeightsError, match="Another process"),
        exclusive_lock(tmp_path / "new"),
    ):
        pass
    with exclusive_lock(tmp_path / "new"):
        pass


class Terminal(io.StringIO):
    """Looks like a screen to whoever writes to it."""

    def isatty(self) -> bool:
        return True


def test_progress_is_one_bar_on_a_terminal(hub: Hub, folder: Folder):
    folder.said = Terminal()
    folder.fetch(on_hub(hub, "one"))
    assert "fetching: 100%" in folder.said.getvalue() and "307k/307k" in folder.said.getvalue()


def test_progress_is_told_in_lines_where_there_is_no_terminal(hub: Hub, folder: Folder):
    folder.fetch(on_hub(hub, "one"))
    assert folder.said.getvalue().startswith("fetching: 307k of 307k (100 %), ")
