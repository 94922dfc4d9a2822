"""`facelight accept`: proof, on the operator's own server, that both endpoints do what they are for.

Requests go out over plain HTTP, as a client's would; what comes back is judged by pure functions (`judges`) and shown
on one page. What cannot be judged, such as a likeness on demo weights, is said to be so and never counted as passed.

    AcceptanceError
    ├── CannotRun  the server, its key or the photos are not to be had; nothing can be said about the pictures
    └── Refused    the server answered one request with an error; that request's group has failed
"""

from __future__ import annotations


class AcceptanceError(Exception):
    """Base of this package's errors; `str()` is a sentence for the operator."""


class CannotRun(AcceptanceError):
    """There is nothing to judge."""


class Refused(AcceptanceError):
    """The server did not answer a request with a picture."""
