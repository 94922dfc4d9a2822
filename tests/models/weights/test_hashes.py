"""Hashes that are remembered as long as nothing suggests a change."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from models.weights import hashes
from models.weights.hashes import HashCache, sha256_of
from tests.cli.weights.hub import sha256


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really read."""
    read: list[Path] = []

    def count(path: Path, _stop: object = None) -> str:
        read.append(path)
        return sha256_of(path)

    monkeypatch.setattr(hashes, "sha256_of", count)
    return read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_a_file_is_read_once_by_all_processes(path: Path, tmp_path: Path, counted: list[Path]):
    memory = tmp_path / "deep" / "hashes.json"
    assert HashCache(memory).sha256(path) == HashCache(memory).sha256(path) == sha256(b"content")
    assert counted == [path]


def test_without_a_memory_one_process_remembers(path: Path, counted: list[Path]):
    cache = HashCache()
    assert cache.get(path) is None
    assert cache.sha256(path) == cache.sha256(path) == cache.get(path)
    assert counted == [path]


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"CONTENT")
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"longer content"),
        lambda path: os.utime(path, ns=(1, 1)),
        replace,
    ],
    ids=["size", "time", "inode"],
)
def test_what_changed_is_read_again(path: Path, counted: list[Path], change):
    cache = HashCache()
    cache.sha256(path)
    change(path)
    assert cache.get(path) is None
    assert cache.sha256(path) == sha256(path.read_bytes())
    assert len(counted) == 2


def test_two_processes_add_to_one_memory(path: Path, tmp_path: Path, counted: list[Path]):
    memory, other = tmp_path / "hashes.json", tmp_path / "other"
    other.write_bytes(b"other")
    first, second = HashCache(memory), HashCache(memory)
    first.sha256(path)
    second.sha256(other)
    assert HashCache(memory).get(path) and HashCache(memory).get(other)
    assert json.loads(memory.read_text()).keys() == {str(path), str(other)}


def test_a_memory_that_cannot_be_written_is_done_without(path: Path):
    cache = HashCache(path / "below a file")
    assert cache.sha256(path) == cache.get(path) == sha256(b"content")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"x": 1}'])
def test_a_damaged_memory_is_begun_anew(path: Path, tmp_path: Path, damage: str):
    memory = tmp_path / "hashes.json"
    memory.write_text(damage)
    assert HashCache(memory).sha256(path) == sha256(b"content")
    assert HashCache(memory).get(path)
