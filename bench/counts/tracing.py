"""Watching the pipelines at work from outside: every call of their runners, without a hook in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from torch import Tensor

from models.runtime.runner import Runner

Work = Callable[[], Any]
Around = Callable[[str, Work], Any]
"""Called with the name of a function and its call, which it has to do."""


@dataclass(frozen=True)
class Call:
    """One call of a runner: the function's name, and how to do it again."""

    name: str
    runner: Any
    network: Any
    inputs: tuple[Any, ...]

    def again(self) -> Any:
        """The same once more."""
        return self.runner(self.network, *self.inputs)


@contextmanager
def recorded_calls() -> Iterator[list[Call]]:
    """Collect all calls of all runners."""
    calls: list[Call] = []
    original = Runner.__call__

    def call(runner: Any, network: Any, *inputs: Any) -> Any:
        calls.append(Call(runner.name, runner, network, inputs))
        return original(runner, network, *inputs)

    with patch.object(Runner, "__call__", call):
        yield calls


@contextmanager
def around_calls(around: Around) -> Iterator[None]:
    """Have `around` make all calls of all runners."""
    original = Runner.__call__

    def call(runner: Any, network: Any, *inputs: Any) -> Any:
        return around(runner.name, lambda: original(runner, network, *inputs))

    with patch.object(Runner, "__call__", call):
        yield


def decoded_latents(calls: Sequence[Call]) -> list[Tensor]:
    """The latents [1, 4, h, w] that were decoded, in order."""
    return [call.inputs[0] for call in calls if call.name == "decode_picture"]
