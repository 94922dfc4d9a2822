"""HTTP/1.1 as it may be spoken: what is refused, what is read ahead, and that each answer goes to its request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.types import Receive, Scope, Send

from tests.server.http.test_slow_clients import HEADER, HURRIED, connected, listening, port_of, refused, rest_of

PATIENT = replace(HURRIED, header_s=10, body_grace_s=10, linger_s=1)
GET = b"GET /%s HTTP/1.1\r\nHost: here\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


_PAUSES_S = {"/wait": 0.3, "/long": 2.0}


class Echo:
    """Answers with method, path and body, some of them late; `gone` tells paths whose clients have left instead."""

    def __init__(self) -> None:
        self.gone: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if scope["path"] in _PAUSES_S:
            await asyncio.sleep(_PAUSES_S[scope["path"]])
        elif scope["path"] == "/forever":
            assert (await receive())["type"] == "http.disconnect"
            self.gone.append(scope["path"])
            return
        text = f"<{scope['method']} {scope['path']} {body.decode()}>".encode()
        length = str(len(text)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": text})


@pytest.fixture(scope="module")
def echo() -> Echo:
    return Echo()


@pytest.fixture(scope="module")
def port(echo: Echo) -> Iterator[int]:
    with listening(PATIENT, echo) as server:
        yield port_of(server)


def bodies(answer: bytes) -> list[bytes]:
    """What was echoed, in order."""
    return [part.partition(b">")[0] for part in answer.split(b"<")[1:]]


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "later"])
def test_what_is_sent_ahead_is_answered_in_its_turn(port: int, apart: bool) -> None:
    with connected(port) as client:
        client.sendall(GET % b"wait")
        if apart:
            _pause(0.05)
        client.sendall(GET % b"wait" + HEADER + b"Content-Length: 3\r\n\r\na")
        _pause(0.05)
        client.sendall(b"bc" + LAST)
        answer = rest_of(client)
    assert bodies(answer) == [b"GET /wait ", b"GET /wait ", b"POST / abc", b"GET /last "]


def test_garbage_sent_ahead_costs_nobody_an_answer(port: int) -> None:
    with connected(port) as client:
        client.sendall(GET % b"wait")
        _pause(0.05)
        client.sendall(b"no HTTP at all\r\n\r\n")
        answer = rest_of(client)
    assert bodies(answer) == [b"GET /wait "]
    refused(answer[answer.index(b"HTTP/1.1 400") :], 400)


def test_much_is_not_read_ahead(port: int) -> None:
    """While an answer is due the peer is kept from sending more than fits into buffers."""
    with connected(port) as client:
        client.sendall(GET % b"long")
        _pause(0.05)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.sendall(GET % b"ahead" * 1024**2)


@pytest.mark.parametrize(("ahead", "later"), [(b"", b""), (GET % b"ahead", b""), (b"", GET % b"ahead")])
def test_the_application_hears_of_a_client_that_leaves(port: int, echo: Echo, ahead: bytes, later: bytes) -> None:
    echo.gone.clear()
    with connected(port) as client:
        client.sendall(GET % b"forever" + ahead)
        _pause(0.1)
        client.sendall(later)
        _pause(0.1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    for _ in range(100):
        if echo.gone:
            break
        _pause(0.02)
    assert echo.gone == ["/forever"]


@pytest.mark.parametrize(
    ("framing", "sent", "body"),
    [
        (b"", b"", b""),
        (b"Content-Length: 3\r\n", b"abc", b"abc"),
        (b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
    ],
    ids=["nothing", "length", "chunks"],
)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
def test_an_upgrade_that_is_not_made(port: int, framing: bytes, sent: bytes, body: bytes, apart: bool) -> None:
    """Clients that offer HTTP/2 are served by HTTP/1.1, that request and the next."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    with connected(port) as client:
        for part in (HEADER + offer + framing + b"\r\n", sent, LAST):
            client.sendall(part)
            if apart:
                _pause(0.05)
        assert bodies(rest_of(client)) == [b"POST / " + body, b"GET /last "]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
        HEADER + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEADER + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEADER + b"Content-Length: +3\r\n\r\nabc",
        HEADER + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEADER + b"X-A : b\r\n\r\n",
        HEADER + b"X-A: b\r\n folded\r\n\r\n",
        HEADER + b"X-A: \0\r\n\r\n",
        HEADER + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    ],
)
def test_refused(port: int, request_: bytes) -> None:
    """By RFC 9112: sections 2.3, 3.2, 5.1, 5.2, 6.1, 6.3, 7.1; what could be read in two ways is read in none."""
    with connected(port) as client:
        client.sendall(request_)
        refused(rest_of(client), 400)


def test_the_older_version_needs_no_host(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"GET /old HTTP/1.0\r\n\r\n")
        assert bodies(rest_of(client)) == [b"GET /old "]


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /", b"a" * 1000),
        (HEADER, b"X-A: b\r\n" * 100),
        (HEADER + b"Transfer-Encoding: chunked\r\n\r\n1;", b"e" * 1000),
        (HEADER + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n" * 100),
    ],
    ids=["target", "header", "size of a chunk", "trailer"],
)
def test_nothing_that_is_kept_may_grow_for_ever(port: int, begin: bytes, piece: bytes) -> None:
    sent, answer = 0, b""
    with connected(port) as client:
        client.sendall(begin)
        client.settimeout(0.002)
        while sent < 4 * 1024**2 and not answer:
            try:
                client.sendall(piece)
                sent += len(piece)
                answer = client.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
    assert sent < 1024**2
    assert not answer or answer.startswith(b"HTTP/1.1 400 ")


def _pause(seconds: float) -> None:
    """Have the server read what was sent by itself."""
    asyncio.run(asyncio.sleep(seconds))
