"""The bounded memory of results."""

from __future__ import annotations

import threading

import pytest

from models.runtime.lru import Recent


def fail() -> str:
    raise ValueError("not made")


def test_a_result_is_made_once():
    recent: Recent[str] = Recent(2)
    assert recent.get("a", lambda: "made") == "made"
    assert recent.get("a", fail) == "made"


def test_the_least_recently_used_is_forgotten():
    recent: Recent[str] = Recent(2)
    for key in ("a", "b", "a", "c"):
        recent.get(key, lambda key=key: key)
    assert recent.get("a", fail) == "a"
    assert recent.get("c", fail) == "c"
    assert recent.get("b", lambda: "again") == "again"


def test_a_failure_is_not_kept():
    recent: Recent[str] = Recent(2)
    with pytest.raises(ValueError, match="not made"):
        recent.get("a", fail)
    assert recent.get("a", lambda: "made") == "made"


def test_other_threads_need_not_wait():
    recent: Recent[str] = Recent(2)
    busy, done = threading.Event(), threading.Event()

    def slowly() -> str:
        busy.set()
        assert done.wait(10)
        return "slow"

    thread = threading.Thread(target=recent.get, args=("slow", slowly))
    thread.start()
    assert busy.wait(10)
    assert recent.get("quick", lambda: "quick") == "quick"
    done.set()
    thread.join(10)
    assert recent.get("slow", fail) == "slow"


def test_what_is_cleared_is_made_again():
    recent: Recent[str] = Recent(2)
    recent.get("a", lambda: "first")
    recent.clear()
    assert recent.get("a", lambda: "second") == "second"
