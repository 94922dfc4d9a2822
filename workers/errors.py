"""What can go wrong between the gateway and a worker.

WorkerError
├── QueueFull        too many requests wait for this model; try again later
└── DeadlineExceeded a job ran longer than it may; raised through `on_step`, ends the request as FAILED
"""

from __future__ import annotations


class WorkerError(Exception):
    """Base of this room's errors."""


class QueueFull(WorkerError):
    """No more requests are taken for this model until some have been served."""


class DeadlineExceeded(WorkerError):
    """The job's time is up; `str()` is a sentence for the caller."""


class SettingsError(WorkerError):
    """A setting does not fit; `str()` names it."""
