"""HTTP/1.1 connections that nobody can keep for nothing: a clock runs on every part of an exchange.

header          must be there `header_s` after the connection, or after its first byte on a connection used before
body            may take `body_grace_s`, and after that must have come at `body_rate` on average, and within `body_s`
rest of a body  that nobody reads, since the answer has been given: read for `linger_s`, then cut off
answer          if the peer takes nothing of it for `stall_s`, the connection is cut
next request    uvicorn's own keep-alive time-out
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from server.errors import RETRY_AFTER_S, SECURITY_HEADERS
from server.http.parser import OneByOne

KEEP_ALIVE_S: Final = 75
"""Longer than reverse proxies keep their idle connections, so that it is the proxy that closes them."""
_LAST_CHANCE_S: Final = 1.0
"""For a new connection to begin its request when the server is about to leave."""


@dataclass(frozen=True)
class Limits:
    """What a peer may take; times in seconds, `body_rate` in bytes per second, `connections` of one process."""

    header_s: float = 10.0
    body_grace_s: float = 15.0
    body_rate: int = 16 * 1024
    body_s: float = 300.0
    linger_s: float = 5.0
    stall_s: float = 60.0
    connections: int = 1000


class LimitedConfig(uvicorn.Config):
    """Configuration of a server whose connections are `LimitedProtocol`s."""

    def __init__(self, app: Any, limits: Limits | None = None, **options: Any) -> None:
        options = {"timeout_keep_alive": KEEP_ALIVE_S, **options}
        super().__init__(app, http=LimitedProtocol, loop="uvloop", ws="none", **options)
        self.limits = limits or Limits()


class _Phase(Enum):
    HEADER = auto()
    BODY = auto()
    REST = auto()
    GONE = auto()
    """The last word has been said; what still comes is dropped until the peer has read it and closes."""
    NONE = auto()
    """The peer owes nothing: its request is complete, or it may begin another one."""


class LimitedProtocol(OneByOne):
    """One connection, watched."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(config, LimitedConfig)
        self._limits = config.limits
        self._phase = _Phase.NONE
        self._clock: asyncio.TimerHandle | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._body_began = 0.0
        self._body_until = 0.0
        self._received = 0
        self._leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base
        """Begin to wait for a header, unless there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self.transport.write(_answer(503, "This server has too many connections. Try again later."))
            self.transport.close()
        else:
            self._enter(_Phase.HEADER, self._limits.header_s, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._enter(_Phase.NONE)
        self._forget_cut()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if self._phase is not _Phase.GONE:
            self._received += len(data)
            super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the end of the connection."""
        if self._leaving:
            self.transport.close()
        super().on_response_complete()
        if self.transport.is_closing():
            self._cut_later()

    def pause_writing(self) -> None:
        """The peer is not taking the answer as fast as it is made."""
        super().pause_writing()
        self._cut_later()

    def resume_writing(self) -> None:
        """It has taken some."""
        super().resume_writing()
        self._forget_cut()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing more has been asked: close."""
        super().timeout_keep_alive_handler()
        self._cut_later()

    def shutdown(self) -> None:
        """The server leaves: what has begun is answered, and a new connection has a moment to begin."""
        self._leaving = True
        if self._phase is _Phase.HEADER:
            self._enter(_Phase.HEADER, _LAST_CHANCE_S, self.transport.close)
        elif self._phase is _Phase.GONE:
            self.transport.close()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the words are this server's own
        """Refuse what is not HTTP."""
        if self._phase is not _Phase.GONE:
            self._hang_up(400, "This is not a valid HTTP/1.1 request.")

    def _begin_turn(self) -> None:
        self._look()
        super()._begin_turn()

    def _take(self, data: bytes) -> None:
        super()._take(data)
        self._look()

    def _look(self) -> None:
        """Find out what the peer owes now."""
        if self._phase is _Phase.GONE:
            return
        if self.transport.is_closing():
            self._enter(_Phase.NONE)
        elif self._in_body and self.cycle.response_complete:
            if self._phase is not _Phase.REST:
                self._enter(_Phase.REST, self._limits.linger_s, self._late)
        elif self._in_body:
            if self._phase is not _Phase.BODY:
                self._begin_body()
        elif not self._is_between and not self._is_answer_due():
            if self._phase is not _Phase.HEADER:
                self._enter(_Phase.HEADER, self._limits.header_s, self._late)
        else:
            self._enter(_Phase.NONE)

    def _enter(self, phase: _Phase, seconds: float = 0.0, then: Callable[[], None] | None = None) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._phase = phase
        self._clock = self.loop.call_later(seconds, then) if then else None

    def _begin_body(self) -> None:
        self._body_began = self.loop.time()
        self._body_until = self._body_began + self._limits.body_s
        self._received = 0
        self._enter(_Phase.BODY, self._limits.body_grace_s, self._check_body)

    def _check_body(self) -> None:
        now = self.loop.time()
        if self.flow.read_paused:  # by the application, which takes its time: no fault of the peer
            self._body_began, self._received = now, 0
        earned_s = self._limits.body_grace_s + self._received / self._limits.body_rate
        until = min(self._body_began + earned_s, self._body_until)
        if now >= until:
            self._late()
        else:
            self._enter(_Phase.BODY, until - now, self._check_body)

    def _late(self) -> None:
        self._hang_up(408, "The request took too long to arrive.")

    def _hang_up(self, status: int, message: str) -> None:
        """End the connection, with an answer if none has been begun for the request at hand.

        It is closed in one direction first: closed at once, what the peer is still sending would cost it the answer.
        """
        if not self._may_answer():
            self._enter(_Phase.NONE)
            self.transport.close()
            self._cut_later()
            return
        self.transport.write(_answer(status, message))
        self.transport.write_eof()
        self._enter(_Phase.GONE, self._limits.linger_s, self.transport.abort)
        self._tell_gone()

    def _cut_later(self) -> None:
        self._forget_cut()
        self._cut = self.loop.call_later(self._limits.stall_s, self.transport.abort)

    def _forget_cut(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None


def _answer(code: int, message: str) -> bytes:
    """An answer in the shape of all errors, as it goes over the wire."""
    status = HTTPStatus(code)
    body = json.dumps({"error": message}).encode()
    headers = {
        **SECURITY_HEADERS,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join((*lines, "", "")).encode() + body
