"""Files are written whole, found only by their names, and gone when their time is up."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.store import Store


def test_what_is_put_is_found(store: Store) -> None:
    name = store.put(b"picture", "png", ttl_s=60)
    found = store.find(name)
    assert found is not None
    assert store.read(name) == b"picture"
    assert found.size == 7
    assert 50 < found.lives_s <= 60


def test_names_are_long_and_differ(store: Store) -> None:
    names = {store.put(b"same", "webp", ttl_s=60) for _ in range(50)}
    assert len(names) == 50
    assert all(len(name) >= 32 + len(".webp") for name in names)


def test_an_expired_file_is_not_found_but_swept_later(store: Store, tmp_path: Path) -> None:
    name = store.put(b"picture", "png", ttl_s=-1)
    assert store.find(name) is None
    assert store.read(name) is None
    assert store.sweep() == 0, "a download may still be reading it"
    path = next(tmp_path.rglob(name))
    os.utime(path, (0, time.time() - 301))
    kept = store.put(b"other", "png", ttl_s=60)
    assert store.sweep() == 1
    assert not path.exists()
    assert store.read(kept) == b"other"


def test_a_dropped_file_is_gone(store: Store) -> None:
    name = store.put(b"picture", "bin", ttl_s=60)
    store.drop(name)
    store.drop(name)
    assert store.find(name) is None


def test_drafts_of_dead_writers_are_swept(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "store" / "ab"
    folder.mkdir()
    draft = folder / ".abandoned.png"
    draft.write_bytes(b"half a pict")
    os.utime(draft, (0, time.time() - 301))
    assert store.sweep() == 1


@pytest.mark.parametrize("name", ["../../etc/passwd", "..%2fpasswd", "", ".", "a" * 40, "a" * 40 + ".svg", "a/b.png"])
def test_what_is_no_name_is_not_found(store: Store, name: str) -> None:
    assert store.find(name) is None
    store.drop(name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.text(max_size=80))
def test_no_text_escapes_the_folder(store: Store, name: str) -> None:
    assert store.find(name) is None
    assert store.read(name) is None
