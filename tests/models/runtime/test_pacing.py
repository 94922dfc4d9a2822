"""The host stays close to the device."""

from __future__ import annotations

import torch

from models.runtime.pacing import AHEAD, Paced, paced


def test_a_step_is_reported_when_the_device_has_done_all_but_the_last_ones() -> None:
    events: list[str] = []

    class Mark:
        def __init__(self) -> None:
            self.number = sum(event.startswith("mark") for event in events) + 1
            events.append(f"mark {self.number}")

        def synchronize(self) -> None:
            events.append(f"done {self.number}")

    on_step = Paced(lambda step, total: events.append(f"step {step} of {total}"), Mark)
    for step in (1, 2, 3, 4):
        on_step(step, 4)
    assert AHEAD == 2
    assert events[:4] == ["mark 1", "step 1 of 4", "mark 2", "step 2 of 4"]
    assert events[4:] == ["mark 3", "done 1", "step 3 of 4", "mark 4", "done 2", "step 4 of 4"]


def test_the_cpu_needs_no_pacing() -> None:
    def on_step(step: int, total: int) -> None:
        raise AssertionError

    assert paced(on_step, torch.device("cpu")) is on_step
