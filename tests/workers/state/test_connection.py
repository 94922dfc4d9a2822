"""A step that must not be lost is taken again while Redis is away, and given up in the end."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from workers.state.connection import connect, decode, retry_until_available


class Flaky:
    """Fails the first `failures` times."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.left, self.error, self.calls = failures, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.left:
            raise self.error
        return "done"


def test_an_outage_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.state.connection._PAUSE_S", 0.01)
    step = Flaky(5, RedisConnectionError("refused"))
    assert retry_until_available(step) == "done"
    assert step.calls == 6


@pytest.mark.parametrize(
    "words",
    [
        "Error running script: @user_script:1: -OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "READONLY You can't write against a read only replica.",
        "NOREPLICAS Not enough good replicas to write.",
    ],
)
def test_a_redis_that_cannot_write_is_retried(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr("workers.state.connection._PAUSE_S", 0.01)
    assert retry_until_available(Flaky(3, ResponseError(words))) == "done"


def test_retries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.state.connection._PAUSE_S", 0.01)
    with pytest.raises(RedisConnectionError):
        retry_until_available(Flaky(10_000, RedisConnectionError("refused")), timeout_s=0.1)


def test_an_error_of_the_command_is_no_outage() -> None:
    step = Flaky(1, ResponseError("wrong type"))
    with pytest.raises(ResponseError):
        retry_until_available(step)
    assert step.calls == 1


def test_replies_are_decoded(redis_url: str) -> None:
    redis = connect(redis_url)
    redis.set("key", "wörd")
    assert decode(redis.get("key")) == "wörd"
