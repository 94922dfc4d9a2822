"""What can go wrong between the gateway and a worker.

WorkerError
├── QueueFull            too many requests wait for this model, or of this key; try again later
├── OutOfCredits         the key cannot pay for the request
├── IdempotencyConflict  the Idempotency-Key was used for another request
├── DeadlineExceeded     a job ran longer than it may; raised through `on_step`, ends the request as FAILED
├── Cancelled            the caller wants the result no more; likewise
├── DeviceBroken         the device cannot be used again by this process, which must end
├── KeyRefused           what the operator wants to do to API keys cannot be done
│   ├── NameTaken        there is a key of that name
│   ├── NameAmbiguous    there are several keys of that name
│   └── NotMetered       the key has no credits to add to
├── SettingsError        a setting does not fit; ends the process at its start
└── StoreUnavailable     pictures can be neither kept nor read now; try again later
    └── StoreRefused     … and waiting does not help: something is set up wrongly
"""

from __future__ import annotations


class WorkerError(Exception):
    """Base of this room's errors."""


class QueueFull(WorkerError):
    """No more requests are taken for this model until some have been served."""


class OutOfCredits(WorkerError):
    """The key has fewer credits than the request costs; `str()` is a sentence for the caller."""


class DeadlineExceeded(WorkerError):
    """The job's time is up; `str()` is a sentence for the caller."""


class IdempotencyConflict(WorkerError):
    """A request with the same Idempotency-Key, and other contents, is there already."""


class Cancelled(WorkerError):
    """The request was cancelled while a worker was at it; `str()` is a sentence for the caller."""


class DeviceBroken(WorkerError):
    """After such an error a process gets nothing from its device any more; the request is not to blame for sure."""


class KeyRefused(WorkerError):
    """Nothing has changed; `str()` is a sentence for the operator."""


class NameTaken(KeyRefused):
    """Two keys may not share a name."""


class NameAmbiguous(KeyRefused):
    """The name means several keys, which versions before this one allowed; the sentence has their ids."""


class NotMetered(KeyRefused):
    """Credits are added to those that a key has."""


class SettingsError(WorkerError):
    """A setting does not fit; `str()` names it."""


class StoreUnavailable(WorkerError):
    """The result store does not answer, or is full; `str()` says which and why, for the log."""


class StoreRefused(StoreUnavailable):
    """The result store answers, and does not let this process use it."""
