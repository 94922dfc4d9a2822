"""HEAD, wherever there is GET."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_IS_HEAD: Final = "facelight.is_head"


def method_of(request: Request) -> str:
    """The method that the client has sent, which is not the one that `HeadAsGet` lets the routes see."""
    return "HEAD" if request.scope.get(_IS_HEAD) else request.method


class HeadAsGet:
    """Answers HEAD as GET is answered, wherever that is, and leaves the body out (RFC 9110 section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, HEAD as GET."""

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        if scope["type"] == "http" and scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET", _IS_HEAD: True}, receive, without_body)
        else:
            await self._app(scope, receive, send)
