"""Connections from these tests stay on loopback: the client library knows its vendor's addresses."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Hosts beyond loopback that this process tried to look up or to reach: each try fails, and so does the test.

    A test that means to try clears the list.
    """
    tried: list[str] = []
    look_up, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex

    def checked(address: Any) -> Any:
        host = address[0] if isinstance(address, tuple) else "localhost"  # Unix sockets are paths
        if not _is_loopback(host):
            tried.append(str(host))
            raise OSError(f"{host} is not this machine")
        return address

    def checked_look_up(host: Any, *args: Any, **options: Any) -> Any:
        return look_up(checked((host,))[0], *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", checked_look_up)
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: connect(self, checked(address)))
    monkeypatch.setattr(socket.socket, "connect_ex", lambda self, address: connect_ex(self, checked(address)))
    yield tried
    assert tried == []


def _is_loopback(host: Any) -> bool:
    if host in (None, "", b"", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:  # a name
        return False
