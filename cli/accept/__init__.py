"""`facelight accept`: an acceptance test of a running server on real photos.

Scenarios send requests over HTTP as a client does; pure functions (`checks`) check the images, and one HTML page
reports the results. What cannot be checked, such as a likeness on demo weights, is skipped and never counted as passed.

    AcceptanceError
    ├── SetupError     the server, its key or the photos are not available, so that nothing can be checked
    └── RequestFailed  the server answered one request with an error; the request's scenario has failed
"""

from __future__ import annotations


class AcceptanceError(Exception):
    """Base of this package's errors; `str()` is a message for the operator."""


class SetupError(AcceptanceError):
    """The run cannot be made."""


class RequestFailed(AcceptanceError):
    """The server did not answer a request with an image."""
