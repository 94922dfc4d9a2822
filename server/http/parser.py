"""Requests of one connection, parsed strictly and served one by one.

The parser is llhttp's, which is fast and leaves to others what is done here: it keeps headers of any size, lets pass
some of what RFC 9112 has a server refuse, stops where a client offers another protocol, and reads on while an answer is
due.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

_MAX_FRAMING: Final = 64 * 1024
"""Bytes of a header, a trailer or chunks' sizes that may come in a row before they are complete; also of requests that
are sent ahead, before the peer has to wait."""


class OneByOne(HttpToolsProtocol):
    """One connection. What is sent ahead waits until its turn has come."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._in_header = False
        self._in_body = False
        self._is_between = True
        """Nothing has come of the next request, not even the blank lines that may be before it."""
        self._is_upgrade_declined = False
        self._framing = 0
        self._ahead = bytearray()
        self._due: RequestResponseCycle | None = None
        """The request that is being served, or was the last; `cycle` is the one that is being read."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application if an answer is due: the base would tell the last request that was read."""
        self._tell_gone()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request; of a later one only once its turn has come."""
        self._take(data)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if not self._is_upgrade_declined:
            super().on_message_begin()
            self._in_header, self._is_between = True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of a header, or of a trailer, which nobody needs."""
        if self._in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Refuse what RFC 9112 has a server refuse, in sections 2.3 and 3.2; begin to serve the rest."""
        if self._is_upgrade_declined:
            return
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and not hosts):
            raise ValueError("no request that this server takes")
        super().on_headers_complete()
        self._in_header, self._in_body, self._framing = False, True, 0

    def on_body(self, body: bytes) -> None:
        """Some bytes of a body."""
        self._framing = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request; where an upgrade is asked for, the parser says so before it has read a body."""
        if self._is_upgrade_declined or not self.parser.should_upgrade():
            self._in_body, self._framing, self._is_between = False, 0, True
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is the next request's turn."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._begin_turn()

    def _begin_turn(self) -> None:
        if self._ahead and not self._is_answer_due():
            data, self._ahead = bytes(self._ahead), bytearray()
            self._take(data)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._due = cycle
        super()._start_asgi_task(cycle, app)

    def _is_answer_due(self) -> bool:
        """Whether something that has been read is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _may_answer(self) -> bool:
        """Whether what is written now answers what is being read: no earlier answer is due, its own has not begun."""
        due = self._due
        if due is None or due.response_complete:
            return not self._in_body
        return due is self.cycle and not due.response_started

    def _tell_gone(self) -> None:
        """Have the application know that nobody waits for its answer any more."""
        if self._due is not None and not self._due.response_complete:
            self._due.disconnected = True
            self._due.message_event.set()

    def _take(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._is_answer_due() and not self._in_body:
            self._ahead += data
            if len(self._ahead) > _MAX_FRAMING:  # a peer that is not read from cannot be seen to leave
                self.flow.pause_reading()
            return
        self._framing += len(data)
        self._is_between = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")
        if self._framing > _MAX_FRAMING:
            self.send_400_response("")

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 (RFC 9110 section 7.8), with a parser that has heard of the body's length only."""
        framing = (field for field in self.headers if field[0] in (b"content-length", b"transfer-encoding"))
        lines = b"".join(b"%s: %s\r\n" % field for field in framing)
        self.parser = httptools.HttpRequestParser(self)
        self._is_upgrade_declined = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + lines + b"\r\n")
        self._is_upgrade_declined = False
        if rest:
            self._take(rest)
