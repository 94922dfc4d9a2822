"""Stages as they were entered, without the time between two runs."""

from __future__ import annotations

import time

import pytest
import torch

from models.runtime.stage_clock import StageClock


def test_stages_are_timed_from_the_start_of_the_run() -> None:
    clock = StageClock(torch.device("cpu"))
    for _ in range(2):  # a second run begins anew
        clock.start("text")
        clock.enter("denoise")
        time.sleep(0.02)
        clock.enter("text")
        time.sleep(0.01)
        clock.stop()
        time.sleep(0.05)
    (first, denoise, last) = clock.intervals
    assert [stage for stage, _, _ in clock.intervals] == ["text", "denoise", "text"]
    assert first[1] == 0
    assert first[2] < 0.01 and 0.02 <= denoise[2] < 0.05 and 0.01 <= last[2] < 0.05
    assert denoise[1] == pytest.approx(first[2], abs=1e-6)
    assert last[1] == pytest.approx(first[2] + denoise[2], abs=1e-6)


def test_without_a_run_there_are_none() -> None:
    assert StageClock(torch.device("cpu")).intervals == []
