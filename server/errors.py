"""Exceptions of the gateway, and the handlers that turn every exception into a response `{"error": message}`.

    GatewayError                500
    ├── BadRequest              400  the body cannot be read
    │   ├── InvalidParameters   400  fields hold what is not accepted; `detail` lists them
    │   └── ImageUnavailable    400  an image cannot be fetched, found or decoded
    ├── Unauthorized            401
    ├── Forbidden               403  the key may not do this
    ├── NotFound                404
    ├── BodyTooLarge            413
    ├── RangeNotSatisfiable     416
    ├── TooManyRequests         429  a rate, quota or fetch slot limit of the caller; a full queue is `QueueFull`
    └── Unfinished              504  a v1 call has reached its time limit; the request is not affected

Of other packages' exceptions, `QueueFull` becomes 429, `OutOfCredits` 406, `IdempotencyConflict` 409, `OtherVersion`
and every error of Redis or of the result store 503. All others are defects: 500, without details.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from models.catalog import MODELS
from server.head import method_of
from server.schemas import FieldError
from workers.errors import IdempotencyConflict, OtherVersion, OutOfCredits, QueueFull, StoreUnavailable

_log = logging.getLogger(__name__)
RETRY_AFTER_S: Final = 5
"""Seconds after which a client may try again after 429 or 503."""
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Defaults of every response: no content sniffing, framing, referrers or caching."""
_PLAIN: Final = (
    (re.compile(r"^Value error, "), ""),
    (re.compile(r"^Field required$"), "is required"),
    (re.compile(r"^Input should be "), "must be "),
    (
        re.compile(r"^Unable to parse input string as an integer, exceeded"),
        "must be an integer of fewer digits: exceeded",
    ),
    (re.compile(r"^(String|List) should have "), "must have "),
)
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
Handler = Callable[[Request, Exception], Awaitable[JSONResponse]]
_MODEL_PATH: Final = re.compile(r"/v[12]/([^/]+)")


class GatewayError(Exception):
    """Base of the gateway's exceptions; `str()` is the error message for the caller, `extra` is added to the body."""

    status: ClassVar[int] = 500

    def __init__(
        self, message: str, *, headers: Mapping[str, str] | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


class BadRequest(GatewayError):
    """The request cannot be understood."""

    status = 400


class InvalidParameters(BadRequest):
    """Fields of the body have invalid values."""

    def __init__(self, fields: Sequence[FieldError]) -> None:
        message = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
        super().__init__(message, extra={"detail": list(fields)})


class ImageUnavailable(BadRequest):
    """An image that the caller refers to cannot be fetched, found or decoded."""


class Unauthorized(GatewayError):
    """No API key, or an unknown one: the response does not reveal which."""

    status = 401

    def __init__(self) -> None:
        super().__init__(
            "Unauthorized. Send a valid API key in the x-api-key or Authorization header.",
            headers={"WWW-Authenticate": "Bearer"},
        )


class Forbidden(GatewayError):
    """The caller's key may not do this."""

    status = 403


class NotFound(GatewayError):
    """The resource does not exist, has another owner, or has expired."""

    status = 404


class BodyTooLarge(GatewayError):
    """The request body exceeds `FACELIGHT_MAX_BODY_MB`."""

    status = 413


class RangeNotSatisfiable(GatewayError):
    """The requested range begins beyond the end of the file."""

    status = 416


class TooManyRequests(GatewayError):
    """The caller has reached a limit for now."""

    status = 429


class Unfinished(GatewayError):
    """The result was not ready within the time limit of a v1 call."""

    status = 504


def field_error(details: ErrorDetails, first: int = 0) -> FieldError:
    """What pydantic says of a field, in plain words; its name begins with element `first` of the location."""
    message = details["msg"]
    for pattern, plain in _PLAIN:
        message = pattern.sub(plain, message)
    return FieldError(field=".".join(map(str, details["loc"][first:])), message=message)


def add_error_handlers(app: FastAPI) -> None:
    """Register the handlers: every exception becomes a response in the one shape that clients read."""
    app.add_exception_handler(GatewayError, _noted(_gateway_error))
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(RequestValidationError, _noted(_invalid_query))
    app.add_exception_handler(QueueFull, _noted(_queue_full))
    app.add_exception_handler(OutOfCredits, _noted(_out_of_credits))
    app.add_exception_handler(IdempotencyConflict, _noted(_conflict))
    app.add_exception_handler(OtherVersion, _noted(_other_version))
    app.add_exception_handler(RedisError, _noted(_outage))
    app.add_exception_handler(StoreUnavailable, _noted(_outage))
    app.add_exception_handler(ClientDisconnect, _client_disconnected)
    app.add_exception_handler(Exception, _defect)


def _noted(handler: Handler) -> Handler:
    """The handler, which leaves its error in `request.state.error` for the metrics."""

    async def noted(request: Request, error: Exception) -> JSONResponse:
        request.state.error = error
        return await handler(request, error)

    return noted


def _response(
    status: int, message: str, headers: Mapping[str, str] | None = None, extra: Mapping[str, Any] | None = None
) -> JSONResponse:
    return JSONResponse({"error": message, **(extra or {})}, status, headers)


async def _gateway_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GatewayError)
    return _response(error.status, str(error), error.headers, error.extra)


async def _framework_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = _not_found_message(request.url.path)
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"{method_of(request)} is not allowed here."
        return _response(405, message, {"Allow": ", ".join(_methods_at(request))})
    else:
        message = str(error.detail)
    return _response(error.status_code, message, error.headers)


async def _invalid_query(request: Request, error: Exception) -> JSONResponse:
    """Parameters in a URL; those in bodies are read by `server.intake`."""
    assert isinstance(error, RequestValidationError)
    return await _gateway_error(request, InvalidParameters([field_error(each, 1) for each in error.errors()]))


def _methods_at(request: Request) -> list[str]:
    """All methods of a path: the framework names those of one route, and several routes may share a path."""

    def is_allowed(method: str) -> bool:
        scope = {**request.scope, "method": "GET" if method == "HEAD" else method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return list(filter(is_allowed, _METHODS))


def _not_found_message(path: str) -> str:
    if found := _MODEL_PATH.fullmatch(path):
        return f"There is no model {found[1]!r}; there are {', '.join(MODELS)}."
    return "There is nothing at this address."


async def _queue_full(_request: Request, error: Exception) -> JSONResponse:
    return _response(429, f"{error} Try again later.", {"Retry-After": str(RETRY_AFTER_S)})


async def _out_of_credits(_request: Request, error: Exception) -> JSONResponse:
    return _response(406, str(error))


async def _conflict(_request: Request, error: Exception) -> JSONResponse:
    return _response(409, str(error))


async def _other_version(_request: Request, error: Exception) -> JSONResponse:
    return _response(503, f"{error} Try again: another gateway may.", {"Retry-After": str(RETRY_AFTER_S)})


async def _outage(_request: Request, error: Exception) -> JSONResponse:
    what = "the result store" if isinstance(error, StoreUnavailable) else "Redis"
    _log.error("%s is unavailable: %s: %s", what, type(error).__name__, error)
    return _response(
        503, "The service is temporarily unavailable. Try again later.", {"Retry-After": str(RETRY_AFTER_S)}
    )


async def _client_disconnected(_request: Request, _error: Exception) -> JSONResponse:
    return _response(400, "The request ended before its body was complete.")


async def _defect(_request: Request, _error: Exception) -> JSONResponse:
    # The framework raises the exception again after this response: the HTTP server logs it and closes the connection.
    # The response is sent outside of all middleware, hence the headers.
    return _response(500, "Internal server error.", {**SECURITY_HEADERS, "Connection": "close"})
