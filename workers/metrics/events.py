"""What happens in a worker, reported to its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from workers.state.record import Record


class WorkerEvents:
    """Called by the stages as things happen, from several threads. This one counts nothing."""

    def claimed(self, record: Record) -> None:
        """A request was claimed."""

    def stepped(self, slug: str, seconds: float) -> None:
        """A denoise step was done, so long after the one before."""

    def ran(self, slug: str, requests: int, seconds: float) -> None:
        """So many requests had the device together for so long."""

    def retried(self, slug: str) -> None:
        """A request is tried again in this process."""

    def ended(self, record: Record, stages: Mapping[str, float], pictures: int) -> None:
        """A request came to its end by this worker: COMPLETED with pictures, or FAILED with none.

        `stages` are its seconds by stage.
        """

    def heartbeat_failed(self) -> None:
        """A heartbeat could not be written."""


NOT_COUNTED: Final = WorkerEvents()
