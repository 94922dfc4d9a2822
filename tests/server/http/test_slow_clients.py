"""Connections that take their time, take no answer, or are too many: closed, in words if anybody reads them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from server.http.protocol import LimitedConfig, Limits

HURRIED = Limits(
    header_s=0.4, body_grace_s=0.4, body_rate=10_000, body_s=2.0, linger_s=0.3, stall_s=0.5, connections=20
)
HEADER = b"POST / HTTP/1.1\r\nHost: here\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the whole body and tells its length; `/early` answers first, `/large` with 64 MB."""
    if scope["type"] == "lifespan":
        return
    size, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    body = bytes(64 * 1024**2) if scope["path"] == "/large" else str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def listening(limits: Limits = HURRIED, application: ASGIApp = app) -> Iterator[uvicorn.Server]:
    """Serve `app`, or another one."""
    server = uvicorn.Server(LimitedConfig(application, limits, port=0, log_config=None, timeout_keep_alive=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


def port_of(server: uvicorn.Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


@pytest.fixture(scope="module")
def server() -> Iterator[uvicorn.Server]:
    with listening() as found:
        yield found


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    return port_of(server)


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


def rest_of(client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


def refused(answer: bytes, status: int) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close" in head
    assert b"nosniff" in head
    assert list(json.loads(body)) == ["error"]


@pytest.mark.parametrize("sent", [b"", b"POST", HEADER, HEADER + b"X-Slow: "], ids=["nothing", "word", "half", "line"])
def test_a_header_that_does_not_end(port: int, sent: bytes) -> None:
    with connected(port) as client:
        client.sendall(sent)
        refused(rest_of(client), 408)


def test_a_header_byte_by_byte(port: int) -> None:
    """Each byte comes in time, the whole does not."""
    with connected(port) as client:
        client.settimeout(0.1)
        answer = b""
        for byte in HEADER + b"X-Slow: " + b"x" * 100:
            with contextlib.suppress(OSError):
                client.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                answer = client.recv(65536)
                break
        refused(answer, 408)


def test_a_header_on_a_used_connection(port: int) -> None:
    with connected(port) as client:
        client.sendall(HEADER + b"\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.sendall(HEADER)
        answer = rest_of(client)
        refused(answer[answer.index(b"HTTP/1.1 408") :], 408)


@pytest.mark.parametrize("framing", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nffff\r\n"])
def test_a_body_that_does_not_come(port: int, framing: bytes) -> None:
    with connected(port) as client:
        client.sendall(HEADER + framing)
        refused(rest_of(client), 408)


def test_a_body_slower_than_it_may_be(port: int) -> None:
    with connected(port) as client:
        client.sendall(HEADER + b"Content-Length: 1000000\r\n\r\n")
        client.settimeout(0.1)
        answer = b""
        for _ in range(100):
            with contextlib.suppress(OSError):
                client.sendall(b"x" * 100)
            with contextlib.suppress(TimeoutError):
                answer = client.recv(65536)
                break
        refused(answer, 408)


def test_a_body_that_is_fast_enough(port: int) -> None:
    """It takes longer than the grace, and is read: its rate is above the least."""
    with connected(port) as client:
        client.sendall(HEADER + b"Content-Length: 30000\r\n\r\n")
        for _ in range(10):
            client.sendall(b"x" * 3000)
            time.sleep(0.06)
        assert client.recv(65536).endswith(b"30000")


def test_a_body_that_takes_too_long_in_all() -> None:
    with listening(replace(HURRIED, body_s=0.5, body_rate=1)) as server, connected(port_of(server)) as client:
        client.sendall(HEADER + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1000)
        refused(rest_of(client), 408)


def test_the_rest_of_a_body_that_nobody_reads(port: int) -> None:
    """The answer is there before the body: the connection is cut soon, without a second answer."""
    with connected(port) as client:
        client.sendall(b"POST /early HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        received = rest_of(client)
        assert received.startswith(b"HTTP/1.1 200 ") and received.count(b"HTTP/1.1") == 1


EARLY = b"POST /early HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\n"


def test_a_body_that_comes_after_its_answer_leaves_nothing_to_wait_for(port: int) -> None:
    """The connection may be silent for longer than a header may take, and is used again."""
    with connected(port) as client:
        client.sendall(EARLY)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"abc")
        time.sleep(0.7)
        client.sendall(HEADER + b"Connection: close\r\n\r\n")
        assert rest_of(client).startswith(b"HTTP/1.1 200 ")


def test_garbage_right_behind_a_body_that_comes_after_its_answer(port: int) -> None:
    with connected(port) as client:
        client.sendall(EARLY)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"abc" + HEADER + b"X-A: \x7f\r\n\r\n")
        refused(rest_of(client), 400)


def test_blank_lines_are_no_way_to_stay(port: int) -> None:
    with connected(port) as client:
        client.settimeout(0.1)
        answer = b""
        for _ in range(100):
            with contextlib.suppress(OSError):
                client.sendall(b"\r\n")
            with contextlib.suppress(TimeoutError):
                answer = client.recv(65536)
                break
        refused(answer, 408)


def test_an_answer_that_nobody_takes(server: uvicorn.Server, port: int) -> None:
    with connected(port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        while not server.server_state.connections:
            time.sleep(0.01)
        while server.server_state.connections:
            time.sleep(0.01)


def test_idle_connections_are_closed(port: int) -> None:
    with connected(port) as client:
        client.sendall(HEADER + b"\r\n")
        assert rest_of(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00 hello", b"GET /\r\n\r\n\r\n"])
def test_what_is_no_http(port: int, garbage: bytes) -> None:
    with connected(port) as client:
        client.sendall(garbage)
        refused(rest_of(client), 400)


def test_headers_that_are_too_large(port: int) -> None:
    with connected(port) as client:
        with contextlib.suppress(OSError):
            client.sendall(HEADER + b"X-Large: " + b"x" * 2_000_000 + b"\r\n\r\n")
        refused(rest_of(client), 400)


def test_pipelined_requests_are_answered_in_turn(port: int) -> None:
    with connected(port) as client:
        client.sendall((HEADER + b"Content-Length: 3\r\n\r\nabc") * 3)
        assert rest_of(client).count(b"HTTP/1.1 200 ") == 3


def test_too_many_connections() -> None:
    with listening(replace(HURRIED, header_s=10, connections=3)) as server, contextlib.ExitStack() as stack:
        port = port_of(server)
        clients = [stack.enter_context(connected(port)) for _ in range(4)]
        refused(rest_of(clients[3]), 503)
        clients[0].sendall(HEADER + b"Connection: close\r\n\r\n")
        assert rest_of(clients[0]).startswith(b"HTTP/1.1 200 ")
        with connected(port) as late:
            late.sendall(HEADER + b"Connection: close\r\n\r\n")
            assert rest_of(late).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", HEADER], ids=["new", "half"])
def test_a_request_on_its_way_is_answered_before_the_server_leaves(sent: bytes) -> None:
    with listening(replace(HURRIED, header_s=10)) as server, connected(port_of(server)) as client:
        client.sendall(sent)
        time.sleep(0.2)
        server.should_exit = True
        time.sleep(0.3)
        client.sendall(HEADER[len(sent) :] + b"\r\n")
        assert rest_of(client).startswith(b"HTTP/1.1 200 ")


def test_who_says_nothing_does_not_keep_the_server() -> None:
    with listening(replace(HURRIED, header_s=60)) as quiet, connected(port_of(quiet)) as client:
        time.sleep(0.1)
        quiet.should_exit = True
        assert rest_of(client) == b""


def test_the_answer_to_a_body_that_still_comes_can_be_read() -> None:
    """Also where the connection is closed behind it, as a proxy may want: no reset destroys the answer on its way."""
    with listening(replace(HURRIED, linger_s=5)) as server, connected(port_of(server)) as client:
        length = 20_000_000
        header = b"POST /early HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length
        client.sendall(header + bytes(1000))
        time.sleep(0.2)
        client.sendall(bytes(length - 1000))
        answer = rest_of(client)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\n0")
        assert b"connection: close" in answer.lower()
