"""What wraps the whole application."""

from __future__ import annotations

from contextlib import nullcontext

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import SECURITY_HEADERS, BodyTooLarge
from server.http.drain import Drain
from workers.state.connection import wait_budget


class ResponseHeadersMiddleware:
    """Adds `SECURITY_HEADERS` to every answer, where the route has not said otherwise.

    While the process drains, it also has the client open its next connection elsewhere.
    """

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its answer completed."""

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
    """Bounds what one call waits for Redis, in all of its commands together."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        with wait_budget(self._seconds) if scope["type"] == "http" else nullcontext():
            await self._app(scope, receive, send)


class BodyLimit:
    """Stops reading a body as soon as it is known to be larger than `max_bytes`: by its declared length, else counted.

    The error rises where the body is read, so a caller without a key still hears that first.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body watched."""
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
    return int(declared[:18]) if declared.isdecimal() else 0  # more digits than that say "too large" as well
