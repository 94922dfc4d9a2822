"""HTTP/1.1 connections with time limits and bounded buffers: uvicorn's protocol on httptools, and what it lacks.

header          complete `header_s` after the connection, or after its first byte on a connection used before
body            `body_grace_s`, after that `body_rate` on average, and at most `body_s`
unread body     of a request whose response is complete: read for `linger_s`, then the connection is closed
response        if the peer reads nothing of it for `stall_s`, the connection is aborted
next request    uvicorn's own keep-alive timeout
connections     more than `connections` of one process get 503
framing         at most `_MAX_HEADER_BYTES` bytes without a byte of a body: llhttp bounds neither headers nor trailers
Host            400 if missing or repeated (RFC 9112, 3.2), as for other versions than 1.0 and 1.1 (2.3); llhttp accepts
Upgrade         is ignored (RFC 9110, 7.8): Java's HttpClient offers h2c with every request; uvicorn would lose its body
pipelining      errors come after the responses of earlier requests; the request in progress is notified of a
                disconnect, uvicorn would notify the last one that was read

What this module uses of uvicorn is not a public interface: `tests/server/http/test_uvicorn.py` lists it, and compares
it with the installed version.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from server.errors import RETRY_AFTER_S, SECURITY_HEADERS

KEEP_ALIVE_S: Final = 75
"""Longer than reverse proxies keep idle connections, so that it is the proxy that closes them."""
_SHUTDOWN_HEADER_S: Final = 1.0
"""For a new connection to send its request when the server shuts down."""
_MAX_HEADER_BYTES: Final = 64 * 1024
_MAX_PIPELINE: Final = 16
"""Requests that are read ahead; meanwhile a disconnect is noticed, which it is not while reading is paused."""


@dataclass(frozen=True)
class Limits:
    """Limits of connections: times in seconds, `body_rate` in bytes per second, `connections` of one process."""

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
    """What the peer owes: IDLE nothing, as its request is complete or none has begun."""

    IDLE = auto()
    HEADER = auto()
    BODY = auto()
    DRAINING_BODY = auto()
    CLOSING = auto()
    """The last response was sent; what still arrives is dropped until the peer closes."""


class _TransportOfResponse:
    """The connection's transport, as the response of one request uses it: `close` is the connection's to decide."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class LimitedProtocol(HttpToolsProtocol):
    """One connection. `cycle` is the request being read, or read last; `pipeline` holds those not started yet."""

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
        self._phase = _Phase.IDLE
        self._timer: asyncio.TimerHandle | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self._active_cycle: RequestResponseCycle | None = None
        self._in_header = False
        self._in_body = False
        self._is_between = True
        """No byte of the next request has arrived, not even of the blank lines that may precede it."""
        self._framing = 0
        self._received = 0
        self._body_began = 0.0
        self._body_until = 0.0
        self._is_declining_upgrade = False
        self._is_invalid = False
        """What follows the requests in the pipeline is not HTTP: 400 after their responses."""
        self._shutting_down = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base
        """Start the header's clock, or send 503 if there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self.transport.write(_error(503, "This server has too many connections. Try again later."))
            self.transport.close()
        else:
            self._set_phase(_Phase.HEADER, self._limits.header_s, self._on_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks, and notify the application: the base notifies the request that was read last."""
        self._set_phase(_Phase.IDLE)
        self._cancel_abort()
        self._signal_disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data, unless the connection has failed already."""
        if self._phase is _Phase.CLOSING or self._is_invalid:
            return
        self._unset_keepalive_if_required()
        self._received += len(data)
        self._framing += len(data)
        self._is_between = False
        self._feed(data)
        if self._framing > _MAX_HEADER_BYTES:
            self.send_400_response("")
        self._update_phase()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if not self._is_declining_upgrade:
            super().on_message_begin()
            self._in_header, self._is_between = True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field; the base would keep fields of trailers, too."""
        if self._in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Refuse what RFC 9112 has a server refuse in sections 2.3 and 3.2; start serving the rest."""
        if self._is_declining_upgrade:
            return
        hosts = sum(name == b"host" for name, _ in self.headers)
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and not hosts):
            raise ValueError("not a request that this server takes")
        super().on_headers_complete()
        self.cycle.transport = _TransportOfResponse(self.transport, self._close_after_body)  # type: ignore[assignment]
        self._in_header, self._in_body, self._framing = False, True, 0
        if 0 < len(self.pipeline) < _MAX_PIPELINE:
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        """Some bytes of a body."""
        self._framing = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request; of one with Upgrade, llhttp calls this before it has parsed the body."""
        if self._is_declining_upgrade or not self.parser.should_upgrade():
            self._in_body, self._framing, self._is_between = False, 0, True
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next request of the pipeline, or wait for one, or close the connection."""
        if self._phase is _Phase.CLOSING:
            return
        if self._shutting_down and not self.pipeline:
            self.transport.close()
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()
        elif self._is_invalid and not self._is_response_due():
            self.send_400_response("")
        self._update_phase()

    def pause_writing(self) -> None:
        """The peer reads the response more slowly than it is written."""
        super().pause_writing()
        self._abort_later()

    def resume_writing(self) -> None:
        """It has read some."""
        super().resume_writing()
        self._cancel_abort()

    def timeout_keep_alive_handler(self) -> None:
        """No further request: close."""
        super().timeout_keep_alive_handler()
        self._abort_later()

    def shutdown(self) -> None:
        """The server shuts down: requests in progress are finished, a new connection has a moment to send one."""
        self._shutting_down = True
        if self._phase is _Phase.HEADER:
            self._set_phase(_Phase.HEADER, _SHUTDOWN_HEADER_S, self.transport.close)
        elif self._phase is _Phase.CLOSING:
            self.transport.close()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the base's signature
        """Reject what is not HTTP, after the responses of complete requests before it."""
        if self._phase is _Phase.CLOSING:
            return
        if self.pipeline or (self._is_response_due() and not self._in_body):
            self._is_invalid = True
        else:
            self._reject_and_close(400, "This is not a valid HTTP/1.1 request.")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade()
            if rest := data[upgrade.args[0] :]:
                self._feed(rest)
        except httptools.HttpParserError:
            self.send_400_response("")

    def _decline_upgrade(self) -> None:
        """Continue in HTTP/1.1 with a parser that has only seen how the body is framed."""
        framing = (field for field in self.headers if field[0] in (b"content-length", b"transfer-encoding"))
        lines = b"".join(b"%s: %s\r\n" % field for field in framing)
        self.parser = httptools.HttpRequestParser(self)
        self._is_declining_upgrade = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + lines + b"\r\n")
        self._is_declining_upgrade = False

    def _is_response_due(self) -> bool:
        """Whether a request that has been read, at least its header, has no complete response."""
        return self.cycle is not None and not self.cycle.response_complete

    def _signal_disconnect(self) -> None:
        if self._active_cycle is not None and not self._active_cycle.response_complete:
            self._active_cycle.disconnected = True
            self._active_cycle.message_event.set()

    def _update_phase(self) -> None:
        """Find out what the peer owes now, and start the clock of that."""
        if self._phase is _Phase.CLOSING:
            return
        phase = _Phase.IDLE
        if not (self.transport.is_closing() or self.pipeline or self._is_invalid):
            if self._in_body:
                phase = _Phase.BODY if self._is_response_due() else _Phase.DRAINING_BODY
            elif not self._is_between and not self._is_response_due():
                phase = _Phase.HEADER
        if phase is _Phase.IDLE:
            self._set_phase(phase)
        elif phase is self._phase:
            return
        elif phase is _Phase.BODY:
            self._body_began = self.loop.time()
            self._body_until = self._body_began + self._limits.body_s
            self._received = 0
            self._set_phase(phase, self._limits.body_grace_s, self._check_body)
        else:
            seconds = self._limits.header_s if phase is _Phase.HEADER else self._limits.linger_s
            self._set_phase(phase, seconds, self._on_timeout)

    def _set_phase(self, phase: _Phase, seconds: float = 0.0, then: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._phase = phase
        self._timer = self.loop.call_later(seconds, then) if then else None

    def _check_body(self) -> None:
        now = self.loop.time()
        if self.flow.read_paused:  # by the application, which has not read the body yet: not the peer's delay
            self._body_began, self._received = now, 0
        earned_s = self._limits.body_grace_s + self._received / self._limits.body_rate
        until = min(self._body_began + earned_s, self._body_until)
        if now >= until:
            self._on_timeout()
        else:
            self._set_phase(_Phase.BODY, until - now, self._check_body)

    def _on_timeout(self) -> None:
        self._reject_and_close(408, "The request took too long to arrive.")

    def _reject_and_close(self, status: int, message: str) -> None:
        """Send an error, unless a response has begun, and close.

        Closed for writing first: closed at once, data that still arrives would have the kernel discard the error.
        """
        if self._in_body and self.cycle.response_started:
            self._set_phase(_Phase.IDLE)
            self.transport.close()
            self._abort_later()
            return
        self.transport.write(_error(status, message))
        self.transport.write_eof()
        self._set_phase(_Phase.CLOSING, self._limits.linger_s, self.transport.abort)
        self._signal_disconnect()

    def _close_after_body(self) -> None:
        """Close behind a response, the last one. What still arrives of the body is dropped, as for an error."""
        if not self._in_body or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._set_phase(_Phase.CLOSING, self._limits.linger_s, self._close)

    def _close(self) -> None:
        self.transport.close()
        self._abort_later()

    def _abort_later(self) -> None:
        self._cancel_abort()
        self._abort_timer = self.loop.call_later(self._limits.stall_s, self.transport.abort)

    def _cancel_abort(self) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None


def _error(code: int, message: str) -> bytes:
    """A response in the shape of all errors, as bytes of HTTP/1.1."""
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
