"""A client that costs next to nothing: one kept connection, requests put together beforehand, answers barely read."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

Exchange = Callable[[], Any]
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END: Final = b"\r\n\r\n"


class Connection:
    """One HTTP/1.1 connection to a port of this machine; a context manager."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, message: bytes) -> bytes:
        """Send a whole request; returns the body of its answer. Raises RuntimeError unless that is a 200."""
        self._socket.sendall(message)
        received = bytearray(self._socket.recv(65536))
        while (end := received.find(_END)) < 0:
            received += self._some()
        length = _LENGTH.search(received, 0, end)
        assert length is not None
        missing = end + len(_END) + int(length[1]) - len(received)
        while missing > 0:
            part = self._some()
            received += part
            missing -= len(part)
        if not received.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(bytes(received[:500]).decode(errors="replace"))
        return bytes(received[end + len(_END) :])

    def _some(self) -> bytes:
        if part := self._socket.recv(1 << 20):
            return part
        raise ConnectionError("the server has closed the connection")


def message(method: str, path: str, body: bytes = b"", media_type: str = "application/json") -> bytes:
    """A request as it goes over the wire."""
    framing = f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{framing}\r\n".encode() + body


def post_json(path: str, fields: dict[str, Any]) -> bytes:
    """A POST with a JSON body."""
    return message("POST", path, json.dumps(fields).encode())


def post_form(path: str, field: str, file: bytes, **fields: str) -> bytes:
    """A POST with a multipart body (RFC 7578): one file, some text."""
    mark = "b0undary"
    texts = "".join(f'--{mark}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items())
    head = f'--{mark}\r\nContent-Disposition: form-data; name="{field}"; filename="photo.png"\r\n\r\n'
    body = (texts + head).encode() + file + f"\r\n--{mark}--\r\n".encode()
    return message("POST", path, body, f"multipart/form-data; boundary={mark}")


def in_turn(exchanges: Sequence[Exchange], rounds: int, warm_up: int) -> list[list[float]]:
    """Times in ms of each exchange; all of them in every round, so that what disturbs one disturbs the others."""
    taken: list[list[float]] = [[] for _ in exchanges]
    for number in range(warm_up + rounds):
        for times, exchange in zip(taken, exchanges, strict=True):
            began = time.perf_counter()
            exchange()
            if number >= warm_up:
                times.append((time.perf_counter() - began) * 1000)
    return taken


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
