"""A request between the stages of a worker, and the time that its stages may take."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from models.params import CommonParams
from models.pipeline import Pipeline
from workers.engine.progress import Progress
from workers.engine.watchdog import GRACE_S, Watchdog


@dataclass(eq=False, frozen=True)
class PreparedRequest:
    """A request that was claimed and prepared; those of one pipeline and batch key can be executed together."""

    progress: Progress
    pipeline: Pipeline[Any, Any]
    params: CommonParams
    prepared: Any
    batch_key: Hashable

    @property
    def is_first_attempt(self) -> bool:
        """Whether no worker has died while it was in flight."""
        return self.progress.record.attempt <= 1


@dataclass(frozen=True)
class TimeBudget:
    """Every request may compute for `timeout_s` seconds, all stages together."""

    timeout_s: int
    watchdog: Watchdog

    @contextmanager
    def stage(self, requests: Sequence[Progress]) -> Iterator[float]:
        """Add the block's time to the requests' computing time; yields the deadline, by the monotonic clock.

        The watchdog ends the process if the block exceeds the deadline by `GRACE_S`.
        """
        began = time.monotonic()
        left = max(0.0, self.timeout_s - max(request.compute_s for request in requests))
        for request in requests:
            request.stage_began = began
        try:
            with self.watchdog.ends_process_after(left + GRACE_S, requests[0].request_id):
                yield began + left
        finally:
            for request in requests:
                request.stage_began = None
                request.compute_s += time.monotonic() - began
