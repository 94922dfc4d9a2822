"""When each stage of a run began on the device and how long it took, measured without waiting for it."""

from __future__ import annotations

import time
from typing import Any

import torch


class StageClock:
    """Times the stages of a run. On CUDA the borders between stages are events of the stream, read when it is done."""

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
    def intervals(self) -> list[tuple[str, float, float]]:
        """Of the last run that was stopped: stages, seconds from its start, and durations. Waits for the device."""
        return [
            (stage, self._between(self._borders[0][1], began), self._between(began, ended))
            for (stage, began), (_, ended) in zip(self._borders, self._borders[1:], strict=False)
        ]

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
