"""Keeping the host close to the device, which works off what it is told long after the telling has returned."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import torch

from models.pipeline import OnStep

AHEAD: Final = 2
"""Steps that the host may be ahead: enough for the device never to wait, few enough for a cancelled request to end."""


class Mark(Protocol):
    """A point in the device's work."""

    def synchronize(self) -> None:
        """Return when the device has passed it."""


class Paced:
    """Reports steps, and holds the host back while the device has more than `AHEAD` of them to do."""

    def __init__(self, on_step: OnStep, mark: Callable[[], Mark]) -> None:
        """`mark` marks the end of the work that the device has been told of."""
        self._on_step, self._mark = on_step, mark
        self._marks: deque[Mark] = deque()

    def __call__(self, step: int, total: int) -> None:
        """An `OnStep`."""
        self._marks.append(self._mark())
        if len(self._marks) > AHEAD:
            self._marks.popleft().synchronize()
        self._on_step(step, total)


def paced(on_step: OnStep, device: torch.device) -> OnStep:
    """`on_step`, called no earlier than the device permits; devices other than CUDA's are never behind."""
    return Paced(on_step, _cuda_mark) if device.type == "cuda" else on_step


def _cuda_mark() -> Mark:
    # Blocking: a thread that sleeps instead of spinning leaves the processor to those that decode and encode.
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record()
    return event
