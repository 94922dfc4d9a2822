"""The clock that all processes share."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from workers.state.connection import SharedClock


def test_it_follows_redis_time_and_reads_it_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[float] = iter([5000.0, 7000.0])
    clock = SharedClock(lambda: next(answers))
    assert clock() == pytest.approx(5000, abs=1)
    assert clock() == pytest.approx(5000, abs=1)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 61)
    assert clock() == pytest.approx(7000, abs=1)


def test_jumps_of_the_wall_clock_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SharedClock(lambda: 5000.0)
    before = clock()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert clock() == pytest.approx(before, abs=1)


def test_it_keeps_running_during_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> float:
        raise RedisConnectionError("away")

    clock = SharedClock(away)
    assert clock() == pytest.approx(time.time(), abs=1)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 100)
    assert clock() == pytest.approx(time.time() + 100, abs=1)
