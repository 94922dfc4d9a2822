"""Seconds that each stage of a run takes on the device, measured without waiting for it."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch


class StageClock:
    """Sums seconds by stage. On CUDA the borders between stages are events of the stream, read when it is done."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._borders: list[tuple[str, Any]] = []

    def start(self, stage: str) -> None:
        """Begin a run, with its first stage."""
        self._borders.clear()
        self.enter(stage)

    def enter(self, stage: str) -> None:
        """From here on the time is another stage's; one may be entered several times."""
        self._borders.append((stage, self._now()))

    def stop(self) -> None:
        """End the run's last stage."""
        self.enter("")

    @property
    def seconds(self) -> dict[str, float]:
        """Of the last run that was stopped, by stage in the order of their first entries; waits for the device."""
        total: defaultdict[str, float] = defaultdict(float)
        for (stage, began), (_, ended) in zip(self._borders, self._borders[1:], strict=False):
            total[stage] += self._between(began, ended)
        return dict(total)

    def _now(self) -> Any:
        if not self._is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _between(self, began: Any, ended: Any) -> float:
        if not self._is_cuda:
            return float(ended - began)
        ended.synchronize()
        return float(began.elapsed_time(ended)) / 1000
