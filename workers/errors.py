"""What can go wrong between the gateway and a worker.

WorkerError
├── QueueFull            too many requests are queued for this model, or of this key; retry later
├── OutOfCredits         the key has fewer credits than the request costs
├── IdempotencyConflict  the Idempotency-Key was used for another request
├── OtherVersion         the record was written by a version of facelight that this one cannot read
├── DeadlineExceeded     a request took longer than `job_timeout_s`; raised from `on_step`, the request FAILED
├── Cancelled            the caller cancelled the request; likewise
├── DeviceBroken         the device is unusable for this process, which must end
├── KeyRefused           an operation on API keys cannot be carried out
│   ├── NameTaken        a key has that name already
│   ├── NameAmbiguous    several keys have that name
│   └── NotMetered       the key has no credits to add to
├── SettingsError        a setting is invalid; ends the process at its start
└── StoreUnavailable     the result store cannot be used now; retry later
    └── StoreRefused     … and a retry does not help: permissions or configuration are wrong
"""

from __future__ import annotations


class WorkerError(Exception):
    """Base of the errors of this package."""


class QueueFull(WorkerError):
    """A limit of queued requests is reached; `str()` is a message for the caller."""


class OutOfCredits(WorkerError):
    """The key has fewer credits than the request costs; `str()` is a message for the caller."""


class DeadlineExceeded(WorkerError):
    """The request's time budget is used up; `str()` is a message for the caller."""


class IdempotencyConflict(WorkerError):
    """A request with the same Idempotency-Key and another fingerprint exists."""


class OtherVersion(WorkerError):
    """A record cannot be read by this version; `str()` is a message for the caller."""


class Cancelled(WorkerError):
    """The request was cancelled while it was processed; `str()` is a message for the caller."""


class DeviceBroken(WorkerError):
    """A sticky device error: every later call of this process fails too. Its cause need not be the request."""


class KeyRefused(WorkerError):
    """Nothing has changed; `str()` is a message for the operator."""


class NameTaken(KeyRefused):
    """Two keys may not share a name."""


class NameAmbiguous(KeyRefused):
    """Several keys have the name, which earlier versions allowed; `str()` has their ids."""


class NotMetered(KeyRefused):
    """Credits cannot be added to a key that is not metered."""


class SettingsError(WorkerError):
    """A setting is invalid; `str()` names it."""


class StoreUnavailable(WorkerError):
    """The result store does not answer or is full; `str()` has the cause, for the log."""


class StoreRefused(StoreUnavailable):
    """The result store denies access, or returns other bytes than were written."""
