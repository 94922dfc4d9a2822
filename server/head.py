"""HEAD for every route that has GET."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_IS_HEAD: Final = "facelight.is_head"


def method_of(request: Request) -> str:
    """The method of the HTTP request; routes see GET instead of HEAD because of `HeadAsGet`."""
    return "HEAD" if request.scope.get(_IS_HEAD) else request.method


class HeadAsGet:
    """Serves HEAD by the route of GET and omits the body (RFC 9110 section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        if scope["type"] == "http" and scope["method"] == "HEAD":
            as_get = {**scope, "method": "GET", _IS_HEAD: True}
            await self._app(as_get, receive, without_body)
            scope["route"] = as_get.get("route")
        else:
            await self._app(scope, receive, send)
