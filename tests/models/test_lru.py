"""The LRU cache."""

from __future__ import annotations

import threading

import pytest

from models.lru import LRUCache


def fail() -> str:
    raise ValueError("not made")


def test_a_value_is_created_once():
    cache: LRUCache[str] = LRUCache(2)
    assert cache.get_or_create("a", lambda: "made") == "made"
    assert cache.get_or_create("a", fail) == "made"


def test_the_least_recently_used_is_evicted():
    cache: LRUCache[str] = LRUCache(2)
    for key in ("a", "b", "a", "c"):
        cache.get_or_create(key, lambda key=key: key)
    assert cache.get_or_create("a", fail) == "a"
    assert cache.get_or_create("c", fail) == "c"
    assert cache.get_or_create("b", lambda: "again") == "again"


def test_a_failure_is_not_cached():
    cache: LRUCache[str] = LRUCache(2)
    with pytest.raises(ValueError, match="not made"):
        cache.get_or_create("a", fail)
    assert cache.get_or_create("a", lambda: "made") == "made"


def test_other_threads_need_not_wait():
    cache: LRUCache[str] = LRUCache(2)
    busy, done = threading.Event(), threading.Event()

    def slowly() -> str:
        busy.set()
        assert done.wait(10)
        return "slow"

    thread = threading.Thread(target=cache.get_or_create, args=("slow", slowly))
    thread.start()
    assert busy.wait(10)
    assert cache.get_or_create("quick", lambda: "quick") == "quick"
    done.set()
    thread.join(10)
    assert cache.get_or_create("slow", fail) == "slow"


def test_what_is_cleared_is_created_again():
    cache: LRUCache[str] = LRUCache(2)
    cache.get_or_create("a", lambda: "first")
    cache.clear()
    assert cache.get_or_create("a", lambda: "second") == "second"
