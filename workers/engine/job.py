"""A request between the stages of a worker, and the time that a stage may take."""

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
class Job:
    """A request that was taken and prepared."""

    progress: Progress
    pipeline: Pipeline[Any, Any]
    params: CommonParams
    prepared: Any
    batch_key: Hashable

    @property
    def is_new(self) -> bool:
        """Whether no worker has died on it, nor beside it."""
        return self.progress.record.attempt <= 1


@dataclass(frozen=True)
class Allowance:
    """A request may compute for `timeout_s` seconds, all stages together."""

    timeout_s: int
    watchdog: Watchdog

    @contextmanager
    def stage(self, requests: Sequence[Progress]) -> Iterator[float]:
        """Count the time of the block as theirs; gives the deadline, by the monotonic clock.

        A block that goes on beyond that for `GRACE_S` has the process ended.
        """
        began = time.monotonic()
        left = max(0.0, self.timeout_s - max(request.seconds for request in requests))
        for request in requests:
            request.since = began
        try:
            with self.watchdog.ends_process_after(left + GRACE_S, requests[0].record.request_id):
                yield began + left
        finally:
            for request in requests:
                request.since = None
                request.seconds += time.monotonic() - began
