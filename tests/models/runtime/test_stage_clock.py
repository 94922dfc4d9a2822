"""Seconds by stage: what was entered, summed, without the time between two runs."""

from __future__ import annotations

import time

import torch

from models.runtime.stage_clock import StageClock


def test_seconds_are_summed_by_stage() -> None:
    clock = StageClock(torch.device("cpu"))
    for _ in range(2):  # a second run begins anew
        clock.start("text")
        clock.enter("denoise")
        time.sleep(0.02)
        clock.enter("text")
        time.sleep(0.01)
        clock.stop()
        time.sleep(0.05)
    assert list(clock.seconds) == ["text", "denoise"]
    assert 0.02 <= clock.seconds["denoise"] < 0.05
    assert 0.01 <= clock.seconds["text"] < 0.05


def test_without_a_run_there_are_none() -> None:
    assert StageClock(torch.device("cpu")).seconds == {}
