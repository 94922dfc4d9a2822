"""Keeping the host close to the device: kernel launches return long before the kernels have run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import torch

from models.pipeline import OnStep

MAX_STEPS_IN_FLIGHT: Final = 2
"""Steps that the host may be ahead: enough to keep the device busy, few enough for a cancelled request to end soon."""


class Event(Protocol):
    """A point in the device's stream of work, such as `torch.cuda.Event`."""

    def synchronize(self) -> None:
        """Return when the device has passed it."""


class StepThrottle:
    """An `OnStep` that blocks while more than `MAX_STEPS_IN_FLIGHT` steps are launched and not done."""

    def __init__(self, on_step: OnStep, record_event: Callable[[], Event]) -> None:
        """`record_event` records an event behind all work that was launched so far."""
        self._on_step, self._record_event = on_step, record_event
        self._in_flight: deque[Event] = deque()

    def __call__(self, step: int, total: int) -> None:
        """Wait for the step that is `MAX_STEPS_IN_FLIGHT` behind, then report this one."""
        self._in_flight.append(self._record_event())
        if len(self._in_flight) > MAX_STEPS_IN_FLIGHT:
            self._in_flight.popleft().synchronize()
        self._on_step(step, total)


def throttled(on_step: OnStep, device: torch.device) -> OnStep:
    """`on_step` behind a `StepThrottle` on CUDA; other devices run synchronously and need none."""
    return StepThrottle(on_step, _record_cuda_event) if device.type == "cuda" else on_step


def _record_cuda_event() -> Event:
    # Blocking: a thread that sleeps instead of spinning leaves the processor to those that decode and encode.
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record()
    return event
