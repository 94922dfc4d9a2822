"""The OpenAPI document: what the types of the routes alone do not define, and an example of every response."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from models.catalog import MODELS
from models.imaging.decode import FILE_MEDIA_TYPES, MEDIA_TYPES
from models.model import Model
from server import responses
from server.intake.webhook import WebhookFields
from server.schemas import (
    CreditsResponse,
    ErrorResponse,
    FailedResponse,
    LiveResponse,
    ReadyResponse,
    UnfinishedResponse,
    UploadResponse,
)
from server.urls import UrlBuilder
from workers.state.record import Output, Record, Status

Responses = dict[int | str, dict[str, Any]]

_SLUG: Final = next(iter(MODELS))
"""The model of the examples."""
DESCRIPTION: Final = (
    "Models on this machine: "
    + "; ".join(f"`{model.slug}`, {model.summary[0].lower()}{model.summary[1:-1]}" for model in MODELS.values())
    + ". Every error is JSON with a message under `error`. Requests and their pictures are kept for an hour."
)
TAGS: Final = [
    {"name": "generate", "description": "Draw pictures."},
    {"name": "requests", "description": "State and result of queued requests."},
    {"name": "files", "description": "Download pictures."},
    {"name": "assets", "description": "Upload pictures for later requests."},
    {"name": "account", "description": "Balance of the key."},
    {"name": "health", "description": "Probes."},
]
_SECURITY_SCHEMES: Final = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}
_UNIVERSAL: Final = (404, 405, 500)
"""Errors that any path may return."""
_ERRORS: Final[dict[int, tuple[str, str]]] = {
    400: ("The body cannot be read, or a field holds what is not accepted.", "width: must be one of 256, 320, 384"),
    401: ("No API key, or an unknown one.", "Unauthorized. Send a valid API key in the x-api-key header."),
    403: ("The key may not use the model.", f"This API key may not use {_SLUG}."),
    404: ("There is no such thing, or no longer.", "Request 6f0c6b7e-6f5b-4c0a-9f0e-2f6f3f1f7c55 not found"),
    405: ("The address does not take this method.", "PUT is not allowed here."),
    406: ("The key has too few credits left.", "Insufficient credits. You have 0.5 credits, and this costs 1."),
    409: (
        "The Idempotency-Key was used for another request.",
        "This Idempotency-Key was used for another request.",
    ),
    413: ("The body is too large.", "The request body is larger than 64 MB."),
    416: ("The file ends before the range.", "The file ends before that range."),
    429: (
        "Too many requests wait, or come with this key.",
        f"1000 requests are waiting for {_SLUG} already. Try again later.",
    ),
    500: ("A defect of the server.", "Internal server error."),
    503: (
        "The queue or the store cannot be reached.",
        "The service is temporarily unavailable. Try again later.",
    ),
}
_RATE_HEADERS: Final = {
    "RateLimit-Policy": "Requests (q) that the key may send in so many seconds (w); absent if it has no limit.",
    "RateLimit": "Requests that are left (r), and seconds (t) until there are more.",
}
_HEADERS: Final[dict[int, dict[str, str]]] = {
    401: {"WWW-Authenticate": "How to authenticate."},
    405: {"Allow": "The methods that the address takes."},
    416: {"Content-Range": "Size of the file."},
    429: {
        "Retry-After": "Seconds to wait before the next try.",
        **_RATE_HEADERS,
    },
    503: {"Retry-After": "Seconds to wait before the next try."},
}
_PICTURE_HEADERS: Final = {
    "X-Request-Id": "Id of the request.",
    "X-generation-time": "Seconds the worker computed.",
    "X-Facelight-Timings": "Extension: the same by stage, as a JSON object.",
    "x-seed-value": "Seed that was used.",
    "X-output-metadata": "JSON object with height and width in px and samples, the number of pictures.",
    "X-remaining-credits": "Balance of the key.",
    **_RATE_HEADERS,
}
_FILE_HEADERS: Final = {
    "ETag": "Strong entity tag; the file never changes.",
    "Cache-Control": "Says for how long the file will be kept.",
    "Accept-Ranges": "bytes",
}
EXPOSED_HEADERS: Final = tuple(dict.fromkeys([*_PICTURE_HEADERS, *_FILE_HEADERS, "Content-Range", "Retry-After"]))
"""Response headers that pages of other origins may read (CORS), besides the safelisted ones."""
_BINARY: Final = {"type": "string", "format": "binary"}
_PICTURES: Final = {media_type: {"schema": _BINARY} for media_type in MEDIA_TYPES.values()}
_FILES: Final = {media_type: {"schema": _BINARY} for media_type in FILE_MEDIA_TYPES.values()}
_ENCODINGS: Final = ("application/json", "multipart/form-data", "application/x-www-form-urlencoded")
PICTURE: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAAAAACPAi4CAAAAK0lEQVR42u3MMREAAAgEoNfkRjeEmwcBqMlNRyAQCAQCgUAg"
    "EAgEAsHzYAFAdAEArKmlZAAAAABJRU5ErkJggg=="
)
"""64 x 64 grey pixels: what is shown as an example can be sent as it is."""
_URLS: Final = UrlBuilder("https://images.example.com")
_CREDITS: Final = 1_000_000.0
_QUEUED_RECORD: Final = Record(
    request_id="6f0c6b7e-6f5b-4c0a-9f0e-2f6f3f1f7c55",
    slug=_SLUG,
    owner="",
    params={name: MODELS[_SLUG].example[name] for name in ("prompt", "seed")},
)
_PICTURE: Final = Output("Vh0Qk3cJx1yTq5m2b8nZr7dL4wGfPsAe.png", "image/png", 1_403_118, 1024, 1024)


def _ended(status: Status, **fields: Any) -> Record:
    return Record(
        request_id=_QUEUED_RECORD.request_id,
        slug=_QUEUED_RECORD.slug,
        owner="",
        params=_QUEUED_RECORD.params,
        status=status,
        started_at=0.02,
        finished_at=2.45,
        inference_time=2.41,
        **fields,
    )


_COMPLETED_RECORD: Final = _ended(Status.COMPLETED, outputs=(_PICTURE,))
_FAILED_RECORD: Final = _ended(Status.FAILED, error="No face was found in the picture.")
_UPLOADED: Final[UploadResponse] = {
    "file_urls": [_URLS.file(_PICTURE.name)],
    "urls": [_URLS.file(_PICTURE.name)],
    "message": "Files uploaded successfully",
}
_BALANCE: Final[CreditsResponse] = {"credits": _CREDITS, "free-credits": 0.0}
_LIVE: Final[LiveResponse] = {"status": "live"}
_READY: Final[ReadyResponse] = {
    "ready": True,
    "draining": False,
    "paused": False,
    "weights": "real",
    "models": {
        _SLUG: {
            "ready": True,
            "weights": "real",
            "note": "",
            "variants": list(MODELS[_SLUG].params.variants[:2]),
            "detail": "loaded in 41.3 s, warmed up in 95.0 s",
            "execution": "captured",
            "fallback": "",
            "waiting": 3,
        },
        **{
            slug: {
                "ready": False,
                "weights": None,
                "note": "",
                "variants": [],
                "detail": "loading",
                "execution": None,
                "fallback": "",
                "waiting": 0,
            }
            for slug in MODELS
            if slug != _SLUG
        },
    },
    "workers": 1,
}

EXAMPLES: Final[Mapping[str, Any]] = {
    "SubmitResponse": responses.submitted(_QUEUED_RECORD.request_id, _URLS),
    "StatusResponse": responses.status(_QUEUED_RECORD, _URLS, _CREDITS, 2),
    "ResultResponse": responses.result(_COMPLETED_RECORD, _URLS, _CREDITS),
    "FailedResponse": responses.failed(_FAILED_RECORD),
    "UnfinishedResponse": responses.unfinished(_QUEUED_RECORD.request_id, _URLS),
    "UploadResponse": _UPLOADED,
    "CreditsResponse": _BALANCE,
    "LiveResponse": _LIVE,
    "ReadyResponse": _READY,
}
"""By name of the schema in `server.schemas`, made by the same functions as real responses."""


def error_responses(*statuses: int) -> Responses:
    """Documentation of error responses."""
    return {status: _error_response(status) for status in statuses}


def submitted_response() -> Responses:
    """Documentation of what can be done with an accepted request."""
    parameters = {"request_id": "$response.body#/request_id"}
    operations = ("request_status", "request_result", "request_result_v1", "cancel_request")
    return {200: {"links": {name: {"operationId": name, "parameters": parameters} for name in operations}}}


def failed_response() -> Responses:
    """Documentation of the response for a request that has failed."""
    return {422: {"model": FailedResponse, "description": "The request has failed; `error` says why."}}


def unfinished_response() -> Responses:
    """Documentation of the response for a v1 call that has reached its time limit."""
    return {504: {"model": UnfinishedResponse, "description": "The result was not ready in time; the request goes on."}}


def picture_response() -> Responses:
    """Documentation of the pictures of a v1 call: one as it is, several as JSON."""
    result = {"application/json": {"schema": {"$ref": "#/components/schemas/ResultResponse"}}}
    description = "The picture; for several pictures, JSON with their URLs."
    return {
        200: {"description": description, "headers": _headers(_PICTURE_HEADERS), "content": {**_PICTURES, **result}}
    }


def events_responses() -> Responses:
    """Documentation of the stream of events of a request."""
    example = f"event: status\ndata: {json.dumps(EXAMPLES['StatusResponse'])}\nid: 0-1-0\n\n"
    bodies = [{"$ref": f"#/components/schemas/{name}"} for name in ("StatusResponse", "FailedResponse")]
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": {"anyOf": bodies}}
    fields = {"event": {"const": "status"}, "data": data, "id": {"type": "string"}}
    event = {"type": "object", "properties": fields, "required": list(fields)}
    content = {"text/event-stream": {"schema": event, "example": example}}
    return {
        200: {"description": "Events named `status`, and comments.", "content": content},
        204: {"description": "`Last-Event-ID` is that of the final state: there will be no other event."},
    }


def file_responses() -> Responses:
    """Documentation of a picture's download."""
    headers = _headers(_FILE_HEADERS)
    partial = {**headers, **_headers({"Content-Range": "Which bytes these are, and the size of the file."})}
    return {
        200: {"description": "The picture.", "headers": headers, "content": _FILES},
        206: {"description": "The part of the picture that was asked for.", "headers": partial, "content": _FILES},
        304: {"description": "The caller has this file already.", "headers": headers},
    }


def request_body(model: Model) -> dict[str, Any]:
    """Documentation of a model's parameters in every encoding."""
    reference = {"$ref": f"#/components/schemas/{_schema_name(model)}"}
    content: dict[str, Any] = {encoding: {"schema": reference} for encoding in _ENCODINGS}
    content["application/json"]["example"] = {**model.example, model.params.image_fields[0]: PICTURE}
    content["multipart/form-data"] = {"schema": {"$ref": f"#/components/schemas/{_schema_name(model)}Form"}}
    return {"requestBody": {"required": True, "content": content}}


def json_body(shape: type[BaseModel]) -> dict[str, Any]:
    """Documentation of a JSON body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": shape.model_json_schema()}}}}


def document(app: FastAPI, asks_for_key: bool) -> dict[str, Any]:
    """The whole document; built once, then cached by the application."""
    if app.openapi_schema is None:
        whole = get_openapi(
            title=app.title, version=app.version, description=app.description, tags=TAGS, routes=app.routes
        )
        whole["components"]["securitySchemes"] = _SECURITY_SCHEMES
        schemas = whole["components"]["schemas"]
        for model in MODELS.values():
            schemas |= _params_schemas(model)
        for operation in _operations(whole):
            _complete(operation, asks_for_key)
        for name, example in EXAMPLES.items():
            schemas[name]["example"] = example
        for framework_schema in ("HTTPValidationError", "ValidationError"):
            schemas.pop(framework_schema, None)
        app.openapi_schema = whole
    return app.openapi_schema


def _operations(whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in whole["paths"].values() for operation in path.values()]


def _complete(operation: dict[str, Any], asks_for_key: bool) -> None:
    """Replace the framework's own 422, add the errors that any address may answer with and the keys to send."""
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    for status in _UNIVERSAL:
        responses.setdefault(str(status), _with_schema(_error_response(status)))
    operation["responses"] = dict(sorted(responses.items()))
    if "401" in responses:
        operation["security"] = [*({name: []} for name in _SECURITY_SCHEMES), *operation.get("security", ())]
        if not asks_for_key and {} not in operation["security"]:
            operation["security"].insert(0, {})


def _params_schemas(model: Model) -> dict[str, Any]:
    """Schemas of a model's parameters: as text fields, and as a form whose pictures may be files."""
    plain = model.params.model_json_schema()
    plain["properties"] |= WebhookFields.model_json_schema()["properties"]
    plain |= {"title": f"{model.title} parameters", "description": f"Parameters of `{model.slug}`."}
    files = {name: _or_file(plain["properties"][name]) for name in model.params.image_fields}
    form = {**plain, "properties": {**plain["properties"], **files}}
    return {_schema_name(model): plain, f"{_schema_name(model)}Form": form}


def _or_file(field: Mapping[str, Any]) -> dict[str, Any]:
    text = {name: field[name] for name in ("type", "format", "minLength")}
    return {**{name: value for name, value in field.items() if name not in text}, "anyOf": [_BINARY, text]}


def _schema_name(model: Model) -> str:
    return "".join(word.capitalize() for word in model.slug.split("-")) + "Params"


def _error_response(status: int) -> dict[str, Any]:
    description, message = _ERRORS[status]
    content = {"application/json": {"example": {"error": message}}}
    headers = _headers(_HEADERS.get(status, {}))
    return {"model": ErrorResponse, "description": description, "content": content, "headers": headers}


def _with_schema(response: dict[str, Any]) -> dict[str, Any]:
    """For responses added after the framework has turned models into references."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
    content["application/json"] |= response["content"]["application/json"]
    return {name: value for name, value in response.items() if name != "model"} | {"content": content}


def _headers(descriptions: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in descriptions.items()}
