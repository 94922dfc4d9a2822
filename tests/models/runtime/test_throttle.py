"""The host stays close to the device."""

from __future__ import annotations

import torch

from models.runtime.runner import MAX_STEPS_IN_FLIGHT, StepThrottle, throttled


def test_a_step_is_reported_once_the_device_has_done_all_but_the_last_ones() -> None:
    calls: list[str] = []

    class FakeEvent:
        def __init__(self) -> None:
            self.number = sum(call.startswith("record") for call in calls) + 1
            calls.append(f"record {self.number}")

        def synchronize(self) -> None:
            calls.append(f"done {self.number}")

    on_step = StepThrottle(lambda step, total: calls.append(f"step {step} of {total}"), FakeEvent)
    for step in (1, 2, 3, 4):
        on_step(step, 4)
    assert MAX_STEPS_IN_FLIGHT == 2
    assert calls[:4] == ["record 1", "step 1 of 4", "record 2", "step 2 of 4"]
    assert calls[4:] == ["record 3", "done 1", "step 3 of 4", "record 4", "done 2", "step 4 of 4"]


def test_the_cpu_needs_no_throttle() -> None:
    def on_step(step: int, total: int) -> None:
        raise AssertionError

    assert throttled(on_step, torch.device("cpu")) is on_step
