"""What only a folder has: partial files, and disks that are full or not writable."""

from __future__ import annotations

import errno
import os
import time
from io import FileIO
from pathlib import Path

import pytest

from workers.errors import SettingsError, StoreUnavailable
from workers.store.base import Store, is_name
from workers.store.open import open_store


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing more can be written."""

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_has_its_name_only_once_it_is_complete(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visible: list[str] = []

    def in_two_parts(file: FileIO, data: bytes) -> None:
        file.write(data[:1])
        visible.extend(path.name for path in files(tmp_path / "store") if is_name(path.name))
        file.write(data[1:])

    monkeypatch.setattr("workers.store.folder._write_all", in_two_parts)
    name = store.put(b"picture", "png", 60)
    assert visible == []
    assert store.read(name) == b"picture"


def test_partial_files_of_crashed_writers_are_purged_when_they_would_have_expired(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "store" / "ab"
    folder.mkdir(parents=True)
    for expires in (time.time() - 301, time.time() - 1):
        (folder / f".{'a' * 32}-{expires:.0f}.png").write_bytes(b"half a pict")
    assert store.purge_expired() == 1


def test_foreign_files_are_purged_after_a_day(store: Store, tmp_path: Path) -> None:
    stray = tmp_path / "store" / "ab" / "notes.txt"
    stray.parent.mkdir(parents=True)
    stray.write_text("?")
    assert store.purge_expired() == 0
    os.utime(stray, (0, time.time() - 86_401))
    assert store.purge_expired() == 1


def test_a_full_disk(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch)
    with pytest.raises(StoreUnavailable, match="No space left"):
        store.put(b"picture", "png", ttl_s=60)
    assert files(tmp_path) == [], "nothing is left that would fill it further"


def test_a_full_disk_at_start_is_only_logged(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill_disk(monkeypatch)
    store.check()
    assert "No space left" in caplog.text


def test_a_path_that_is_no_folder_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match="FACELIGHT_STORE: Not a directory"):
        open_store(str(tmp_path / "file" / "store")).check()
