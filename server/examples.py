"""One example of every answer, for OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from server import responses
from server.schemas import CreditsAnswer, LiveAnswer, ReadyAnswer, UploadAnswer
from server.urls import Links
from workers.state.record import Output, Record, Status

PICTURE: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAAAAACPAi4CAAAAK0lEQVR42u3MMREAAAgEoNfkRjeEmwcBqMlNRyAQCAQCgUAg"
    "EAgEAsHzYAFAdAEArKmlZAAAAABJRU5ErkJggg=="
)
"""64 x 64 grey pixels: what is shown as an example can be sent as it is."""
_LINKS: Final = Links("https://images.example.com")
_CREDITS: Final = 1_000_000.0
_QUEUED: Final = Record(
    request_id="6f0c6b7e-6f5b-4c0a-9f0e-2f6f3f1f7c55",
    slug="pulid-lightning",
    owner="",
    params={"prompt": "A photo of a person", "seed": 412431},
)
_PICTURE: Final = Output("Vh0Qk3cJx1yTq5m2b8nZr7dL4wGfPsAe.png", "image/png", 1_403_118, 1024, 1024)


def _ended(status: Status, **fields: Any) -> Record:
    return Record(
        request_id=_QUEUED.request_id,
        slug=_QUEUED.slug,
        owner="",
        params=_QUEUED.params,
        status=status,
        started_at=0.02,
        finished_at=2.45,
        inference_time=2.41,
        **fields,
    )


_COMPLETED: Final = _ended(Status.COMPLETED, outputs=(_PICTURE,))
_FAILED: Final = _ended(Status.FAILED, error="No face was found in the picture.")
_UPLOADED: Final[UploadAnswer] = {
    "file_urls": [_LINKS.file(_PICTURE.name)],
    "urls": [_LINKS.file(_PICTURE.name)],
    "message": "Files uploaded successfully",
}
_BALANCE: Final[CreditsAnswer] = {"credits": _CREDITS, "free-credits": 0.0}
_LIVE: Final[LiveAnswer] = {"status": "live"}
_READY: Final[ReadyAnswer] = {
    "ready": True,
    "draining": False,
    "weights": "real",
    "models": {
        "pulid-lightning": {
            "ready": True,
            "weights": "real",
            "note": "",
            "variants": ["default", "artistic"],
            "detail": "",
        },
        "ic-light": {"ready": False, "weights": None, "note": "", "variants": [], "detail": "loading"},
    },
    "workers": 1,
}

EXAMPLES: Final[Mapping[str, Any]] = {
    "SubmitAnswer": responses.submitted(_QUEUED.request_id, _LINKS),
    "StatusAnswer": responses.status(_QUEUED, _LINKS, _CREDITS),
    "ResultAnswer": responses.result(_COMPLETED, _LINKS, _CREDITS),
    "FailedAnswer": responses.failed(_FAILED),
    "UnfinishedAnswer": responses.unfinished(_QUEUED.request_id, _LINKS),
    "UploadAnswer": _UPLOADED,
    "CreditsAnswer": _BALANCE,
    "LiveAnswer": _LIVE,
    "ReadyAnswer": _READY,
}
"""By name of the schema in `server.schemas`: what the server itself says of requests that are made up."""
