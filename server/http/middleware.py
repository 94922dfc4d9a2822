"""ASGI middleware around the whole application."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import get_current_span
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import SECURITY_HEADERS, BodyTooLarge
from server.http.drain import Drain
from server.urls import REQUEST_ID
from workers.logs import request_context
from workers.state.connection import wait_budget

if TYPE_CHECKING:
    from server.metrics.calls import CallMetrics

_access_log = logging.getLogger("server.access")
_SECURITY_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a request whose client has disconnected before a response."""


class RequestLog:
    """Logs the lines of an HTTP request with the request id in its path, and with `access_log` one line about it.

    `metrics` counts it.

    That line has the method, path without query, status, milliseconds, name of the API key. Segments of the path other
    than `known_segments` and ids of requests are logged as `*`: they may be API keys that a client has misplaced, or
    names of files, which anyone may download who knows them. Routes that create a request bind its id themselves; see
    `workers.logs`.
    """

    def __init__(
        self, app: ASGIApp, known_segments: Collection[str], access_log: bool, metrics: CallMetrics | None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._known_segments = known_segments
        self._has_access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, then log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | None = None

        async def watched_receive() -> Message:
            nonlocal status
            message = await receive()
            if message["type"] == "http.disconnect" and status is None:
                status = _CLIENT_CLOSED_REQUEST
            return message

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start" and status is None:
                status = message["status"]
            await send(message)

        if self._metrics is not None:
            self._metrics.began()
        began = time.perf_counter()
        state = scope.setdefault("state", {})  # the dictionary that `request.state` writes to
        with request_context(*filter(REQUEST_ID.fullmatch, scope["path"].split("/"))):
            try:
                await self._app(scope, watched_receive, watched_send)
            finally:  # without a status an exception is passing, which becomes 500 outside of this middleware
                seconds = time.perf_counter() - began
                if self._has_access_log:
                    self._log(scope, status or 500, seconds * 1000)
                if self._metrics is not None:
                    route = getattr(scope.get("route"), "path", None)
                    self._metrics.ended(route, scope["method"], status or 500, seconds, state.get("error"))

    def _log(self, scope: Scope, status: int, duration_ms: float) -> None:
        path = masked(scope["path"], self._known_segments)
        caller = scope["state"].get("caller")
        key = caller.log_name if caller and caller.log_name else None
        fields = {
            "method": scope["method"],
            "path": path,
            "status": status,
            "duration_ms": round(duration_ms, 1),
            "key": key,
        }
        text = "%s %s %d %.1f ms key=%s"
        _access_log.info(text, scope["method"], path, status, duration_ms, repr(key) if key else "-", extra=fields)


class SpanPath:
    """Masks the path and the query in the span that FastAPI has begun for the HTTP call; only where there is one."""

    def __init__(self, app: ASGIApp, known_segments: Collection[str]) -> None:
        self._app = app
        self._known_segments = known_segments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http":
            span = get_current_span()
            span.set_attribute("url.path", masked(scope["path"], self._known_segments))
            if scope["query_string"]:
                span.set_attribute("url.query", "*")
        await self._app(scope, receive, send)


def masked(path: str, known_segments: Collection[str]) -> str:
    """The path with `*` for every segment that is neither known nor the id of a request."""
    return "/".join(
        segment if segment in known_segments or REQUEST_ID.fullmatch(segment) else "*" for segment in path.split("/")
    )


class ResponseHeadersMiddleware:
    """Adds those of `SECURITY_HEADERS` that the route has not set; `Connection: close` while the process drains."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, completing its response headers."""

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                missing = [header for header in _SECURITY_HEADERS if header[0] not in present]
                message = {**message, "headers": [*message["headers"], *missing]}
                if self._drain.begun:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, complete)


class RedisWaitBudget:
    """Limits the time that one request waits for Redis, over all of its commands."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request within the budget."""
        with wait_budget(self._seconds) if scope["type"] == "http" else nullcontext():
            await self._app(scope, receive, send)


class BodyLimit:
    """Stops reading a body as soon as its declared or received length exceeds `max_bytes`.

    `BodyTooLarge` is raised where the body is read, after authentication: a caller without a key gets 401.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, counting the bytes of its body."""
        if scope["type"] == "http":
            receive = self._limited(receive, _declared_length(scope))
        await self._app(scope, receive, send)

    def _limited(self, receive: Receive, declared: int) -> Receive:
        received = 0

        async def limited() -> Message:
            nonlocal received
            self._check(declared)
            message = await receive()
            received += len(message.get("body", b""))
            self._check(received)
            return message

        return limited

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise BodyTooLarge(f"The request body is larger than {self._max_bytes // 1024**2} MB.")


def _declared_length(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared[:18]) if declared.isdecimal() else 0  # enough digits to be too large
