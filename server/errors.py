"""Everything that leaves as an error, and the one place that turns exceptions into `{"error": message}`.

    GatewayError                500
    ├── BadRequest              400  the body cannot be read
    │   ├── InvalidParameters   400  fields hold what is not accepted; `detail` lists them
    │   └── ImageUnavailable    400  a picture that the caller names cannot be had
    ├── Unauthorized            401
    ├── Forbidden               403  the key may not do this
    ├── NotFound                404
    ├── BodyTooLarge            413
    ├── RangeNotSatisfiable     416
    ├── TooManyRequests         429  the caller's rate, quota or places are used up; the queue's limit is `QueueFull`
    └── Unfinished              504  a v1 call has waited long enough; the request goes on

Of other rooms' errors, `QueueFull` becomes 429, `OutOfCredits` 406, `IdempotencyConflict` 409, and every failure of
Redis or of the result store 503. What is left is a defect: 500, with no word about its cause.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from models.catalog import MODELS
from server.http.head import method_of
from server.schemas import FieldError
from workers.errors import IdempotencyConflict, OutOfCredits, QueueFull, StoreUnavailable

_log = logging.getLogger(__name__)
RETRY_AFTER_S: Final = 5
"""Seconds after which a client that was turned away (429, 503) may try again."""
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of every answer that does not set its own: nothing is to be guessed, framed, told on, or kept."""
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_MODEL_PATH: Final = re.compile(r"/v[12]/([^/]+)")


class GatewayError(Exception):
    """Base of this room's errors; `str()` is a message for the caller, `extra` goes into the body beside it."""

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
    """Fields of the body hold what is not accepted."""

    def __init__(self, fields: Sequence[FieldError]) -> None:
        message = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
        super().__init__(message, extra={"detail": list(fields)})


class ImageUnavailable(BadRequest):
    """A picture that the caller names cannot be fetched, found or decoded."""


class Unauthorized(GatewayError):
    """No API key, or none that is known: the answer does not tell which."""

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
    """There is no such thing, or it is not the caller's, or it has expired."""

    status = 404


class BodyTooLarge(GatewayError):
    """The request's body is larger than this server reads."""

    status = 413


class RangeNotSatisfiable(GatewayError):
    """The file ends before the range that was asked for begins."""

    status = 416


class TooManyRequests(GatewayError):
    """The caller has sent or uploaded more than it may for now."""

    status = 429


class Unfinished(GatewayError):
    """The result was not there in time."""

    status = 504


def add_error_handlers(app: FastAPI) -> None:
    """Have every exception answered in the one shape that clients of these endpoints read."""
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(QueueFull, _queue_full)
    app.add_exception_handler(OutOfCredits, _out_of_credits)
    app.add_exception_handler(IdempotencyConflict, _conflict)
    app.add_exception_handler(RedisError, _outage)
    app.add_exception_handler(StoreUnavailable, _outage)
    app.add_exception_handler(ClientDisconnect, _client_gone)
    app.add_exception_handler(Exception, _defect)


def _answer(
    status: int, message: str, headers: Mapping[str, str] | None = None, extra: Mapping[str, Any] | None = None
) -> JSONResponse:
    return JSONResponse({"error": message, **(extra or {})}, status, headers)


async def _gateway_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GatewayError)
    return _answer(error.status, str(error), error.headers, error.extra)


async def _framework_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = _nothing_at(request.url.path)
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"{method_of(request)} is not allowed here."
        return _answer(405, message, {"Allow": ", ".join(_methods_at(request))})
    else:
        message = str(error.detail)
    return _answer(error.status_code, message, error.headers)


def _methods_at(request: Request) -> list[str]:
    """All methods of an address: the framework names those of one route, and several may share the address."""

    def is_taken(method: str) -> bool:
        scope = {**request.scope, "method": "GET" if method == "HEAD" else method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return list(filter(is_taken, _METHODS))


def _nothing_at(path: str) -> str:
    if found := _MODEL_PATH.fullmatch(path):
        return f"There is no model {found[1]!r}; there are {', '.join(MODELS)}."
    return "There is nothing at this address."


async def _queue_full(_request: Request, error: Exception) -> JSONResponse:
    return _answer(429, f"{error} Try again later.", {"Retry-After": str(RETRY_AFTER_S)})


async def _out_of_credits(_request: Request, error: Exception) -> JSONResponse:
    return _answer(406, str(error))


async def _conflict(_request: Request, error: Exception) -> JSONResponse:
    return _answer(409, str(error))


async def _outage(_request: Request, error: Exception) -> JSONResponse:
    what = "the result store" if isinstance(error, StoreUnavailable) else "Redis"
    _log.error("%s cannot be used: %s: %s", what, type(error).__name__, error)
    return _answer(503, "The service is temporarily unavailable. Try again later.", {"Retry-After": str(RETRY_AFTER_S)})


async def _client_gone(_request: Request, _error: Exception) -> JSONResponse:
    return _answer(400, "The request ended before its body was complete.")


async def _defect(_request: Request, _error: Exception) -> JSONResponse:
    # The framework raises the exception again after this answer: the HTTP server logs it and drops the connection.
    # It also answers from outside of all middleware, hence the headers.
    return _answer(500, "Internal server error.", {**SECURITY_HEADERS, "Connection": "close"})
