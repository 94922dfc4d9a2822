"""ASGI middleware around the whole application."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import SECURITY_HEADERS, BodyTooLarge
from server.http.drain import Drain
from workers.logs import request_context
from workers.state.connection import wait_budget

_access_log = logging.getLogger("server.access")
_CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a request whose client has disconnected before a response."""


class AccessLog:
    """Logs one line per HTTP request: method, path without query, status, milliseconds, name of the API key.

    Lines logged while the request is served have its request id once it is bound; see `workers.logs`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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

        began = time.perf_counter()
        scope.setdefault("state", {})  # the dictionary that `request.state` writes to
        with request_context():
            try:
                await self._app(scope, watched_receive, watched_send)
            finally:  # without a status an exception is passing, which becomes 500 outside of this middleware
                _log_access(scope, status or 500, (time.perf_counter() - began) * 1000)


def _log_access(scope: Scope, status: int, duration_ms: float) -> None:
    path = scope["raw_path"].decode("ascii", "backslashreplace")  # percent-encoded: holds no control characters
    caller = scope["state"].get("caller")
    key = caller.log_name if caller and caller.log_name else None
    _access_log.info(
        "%s %s %d %.1f ms key=%s",
        scope["method"],
        path,
        status,
        duration_ms,
        repr(key) if key else "-",
        extra={
            "method": scope["method"],
            "path": path,
            "status": status,
            "duration_ms": round(duration_ms, 1),
            "key": key,
        },
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
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if self._drain.begun:
                    headers["Connection"] = "close"
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
