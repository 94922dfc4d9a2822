"""The shipped lock: read strictly, and pinned without disturbing what people wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import WeightsError
from models.weights.lock import DemoFile, pin, pin_demo, read_lock

ENTRY = """
# Why there is one.
[[weights]]
name = "one"
role = "rmbg"
used_by = ["ic-light"]
default = true
licence = "MIT"
commercial = "restricted"
source = { repo = "some/repo", revision = "main" }  # a branch
path = "one"
files = [
  { path = "one/config.json", origin = "config.json", sha256 = "unpinned" },
  { path = "one/model.safetensors", origin = "model.safetensors", size = 7, sha256 = "unpinned" },
]
"""
DEMO = """
# Trained here.
[demo]
files = [
  { path = "old.safetensors", size = 1, sha256 = "%s" },
]
""" % ("c" * 64)
OTHER = ENTRY.replace('name = "one"', 'name = "other"').replace('"one', '"other')
HASH = "a" * 64


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "weights.lock"
    path.write_text(ENTRY + OTHER)
    return path


def test_an_entry_is_read(lock: Path):
    (one, _) = read_lock(lock).weights
    assert (one.name, one.role, one.commercial, one.optional, one.note) == ("one", "rmbg", "restricted", False, "")
    assert [file.pinned for file in one.files] == [False, False]
    assert read_lock(lock).named("one") == one


def test_an_unknown_name_is_answered_with_those_there_are(lock: Path):
    with pytest.raises(WeightsError, match="'three'; there are one, other"):
        read_lock(lock).named("three")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"one/config.json"', '"../config.json"'),
        ('"one/config.json"', '"/etc/config.json"'),
        ('"one/config.json"', '"one\\\\config.json"'),
        ('origin = "config.json"', 'origin = "a/../../config.json"'),
        ('sha256 = "unpinned"', 'sha256 = "abc"'),
        ('"some/repo"', '"some/repo/tree"'),
        ('"restricted"', '"perhaps"'),
        ('licence = "MIT"', 'license = "MIT"'),
        ('name = "one"', 'name = "other"'),
        ("[[weights]]", "[[weights"),
    ],
)
def test_what_does_not_fit_is_refused(lock: Path, old: str, new: str):
    lock.write_text(ENTRY.replace(old, new, 1) + OTHER)
    with pytest.raises(WeightsError, match=r"weights\.lock is malformed"):
        read_lock(lock)


def test_a_lock_that_is_not_there(tmp_path: Path):
    with pytest.raises(WeightsError, match="cannot be read"):
        read_lock(tmp_path / "weights.lock")


def test_pinning_changes_the_learned_files_and_nothing_else(lock: Path):
    before = lock.read_text().splitlines()
    learned = {"one": {"one/model.safetensors": (8, HASH)}, "unknown": {"x": (1, HASH)}}
    assert pin(lock, learned) == ["one/model.safetensors"]
    after = lock.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [
        (
            '  { path = "one/model.safetensors", origin = "model.safetensors", size = 7, sha256 = "unpinned" },',
            f'  {{ path = "one/model.safetensors", origin = "model.safetensors", size = 8, sha256 = "{HASH}" }},',
        )
    ]
    assert [file.pinned for weight in read_lock(lock).weights for file in weight.files] == [False, True, False, False]


def test_what_is_pinned_stays(lock: Path):
    pin(lock, {"one": {"one/config.json": (2, HASH)}})
    assert pin(lock, {"one": {"one/config.json": (3, "b" * 64)}}) == []
    assert read_lock(lock).named("one").files[0].sha256 == HASH


def test_entries_in_another_notation_are_left_to_people(lock: Path):
    lock.write_text(lock.read_text().replace('{ path = "one/config.json",', "{ path = 'one/config.json',"))
    with pytest.raises(WeightsError, match=r"no table for one/config\.json.*edit it by hand"):
        pin(lock, {"one": {"one/config.json": (2, HASH)}})


def test_a_lock_that_cannot_be_written_is_told(lock: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path, text: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("models.weights.lock.atomic_write", refuse)
    with pytest.raises(WeightsError, match=r"cannot be written \(Permission denied\): run this as its owner"):
        pin(lock, {"one": {"one/config.json": (2, HASH)}})


def test_a_lock_need_not_know_demo_weights(lock: Path):
    assert read_lock(lock).demo.files == []
    with pytest.raises(WeightsError, match=r"no section \[demo\].*edit it by hand"):
        pin_demo(lock, [])


def test_the_section_of_demo_weights_is_replaced_and_nothing_else(lock: Path):
    lock.write_text(ENTRY + DEMO + OTHER)
    files = [DemoFile(path=name, size=size, sha256=HASH) for name, size in (("a", 1), ("b", 2_000_000))]
    pin_demo(lock, files)
    assert read_lock(lock).demo.files == files
    assert lock.read_text().startswith(ENTRY + "\n# Trained here.\n[demo]\n")
    assert lock.read_text().endswith("]\n" + OTHER)
    pin_demo(lock, [])
    assert read_lock(lock).demo.files == []


def test_pinning_weights_leaves_the_section_of_demo_weights_alone(lock: Path):
    lock.write_text(ENTRY + DEMO + OTHER)
    assert pin(lock, {"other": {"other/config.json": (2, HASH)}}) == ["other/config.json"]
    assert DEMO in lock.read_text()
    assert read_lock(lock).named("other").files[0].sha256 == HASH
