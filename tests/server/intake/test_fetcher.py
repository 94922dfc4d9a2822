"""No URL of a stranger leads into a private network, holds the gateway up, or fills its memory."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.imaging.decode import MAX_BYTES
from server.errors import ImageUnavailable
from server.intake.fetcher import Fetcher
from server.intake.guard import Address, GuardedClient, Resolver, is_public, resolve
from tests.server.support import PNG, Host


def fetch(
    url: str,
    allowed: Sequence[str] = ("127.0.0.0/8",),
    resolver: Resolver = resolve,
    total_s: float = 15,
    offline: bool = False,
) -> bytes:
    async def run() -> bytes:
        client = GuardedClient([ip_network(network) for network in allowed], offline, resolver)
        try:
            return await Fetcher(client, total_s).fetch(url)
        finally:
            await client.close()

    return asyncio.run(run())


class Names:
    """A resolver that answers from a list: one answer per question, the last one for ever."""

    def __init__(self, *answers: str) -> None:
        self.answers = [[ip_address(address) for address in answer.split()] for answer in answers]
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "100::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2606:4700::5efe:808:808",
        "2606:4700::200:5efe:808:808",
        "3fff::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public(address: str) -> None:
    assert is_public(ip_address(address))


@given(inner=st.ip_addresses(v=4), prefix=st.sampled_from(["::ffff:0:0", "64:ff9b::", "2002::", "::"]))
def test_wrapping_an_address_makes_nothing_public(inner: Address, prefix: str) -> None:
    shift = 80 if prefix == "2002::" else 0
    wrapped = ip_address(int(ip_address(prefix)) | int(inner) << shift)
    assert is_public(inner) or not is_public(wrapped)


@pytest.mark.parametrize(
    "spelling",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "%31%32%37.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "user:secret@127.0.0.1",
        "169.254.169.254",
        "１２７.0.0.1",
        "①②⑦.0.0.1",
        "-",
        "x" * 64 + ".example",
    ],
)
def test_spellings_of_private_hosts(host: Host, spelling: str) -> None:
    port = host.url.rpartition(":")[2]
    with pytest.raises(ImageUnavailable) as refusal:
        fetch(f"http://{spelling}:{port}/photo.png", allowed=())
    assert not host.requests
    assert "127" not in str(refusal.value)


def test_allowed_networks(host: Host) -> None:
    assert fetch(f"{host.url}/photo.png") == PNG
    assert fetch(f"{host.url}/photo.png", resolver=Names("127.0.0.1"), allowed=("127.0.0.1/32",)) == PNG


def test_offline_only_the_allowed_networks_are_left(host: Host) -> None:
    assert fetch(f"{host.url}/photo.png", offline=True) == PNG
    for url in ("http://93.184.216.34/", "http://10.0.0.1/", f"{host.url}/to/{quote('http://8.8.8.8/', safe='')}"):
        with pytest.raises(ImageUnavailable, match=r"offline.*out of the networks"):
            fetch(url, offline=True)


def test_offline_without_networks_not_even_names_are_looked_up() -> None:
    names = Names("93.184.216.34")
    with pytest.raises(ImageUnavailable, match=r"offline.*reaches no URLs"):
        fetch("http://photos.example/", allowed=(), resolver=names, offline=True)
    assert not names.asked


def test_the_host_keeps_its_name(host: Host) -> None:
    port = host.url.rpartition(":")[2]
    assert fetch(f"http://photos.example:{port}/photo.png", resolver=Names("127.0.0.1")) == PNG
    assert host.requests == [("/photo.png", f"photos.example:{port}")]


def test_one_private_address_among_several_is_one_too_many(host: Host) -> None:
    port = host.url.rpartition(":")[2]
    with pytest.raises(ImageUnavailable, match="not public"):
        fetch(f"http://photos.example:{port}/photo.png", resolver=Names("127.0.0.1 10.0.0.1"))
    assert not host.requests


def test_rebinding_changes_nothing(host: Host) -> None:
    """A name that is public when checked and private afterwards is asked for once only."""
    port = host.url.rpartition(":")[2]
    names = Names("192.0.2.1", "127.0.0.1")
    with pytest.raises(ImageUnavailable):
        fetch(f"http://rebind.example:{port}/photo.png", allowed=("192.0.2.0/24",), resolver=names, total_s=0.3)
    assert names.asked == ["rebind.example"]
    assert not host.requests


def test_where_the_connection_ends_is_checked_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the way to a checked address lead elsewhere, nothing is said there."""
    port = int(host.url.rpartition(":")[2])
    connect = asyncio.SelectorEventLoop.create_connection

    async def led_astray(loop: Any, factory: Any, _host: str, _port: int, **options: Any) -> Any:
        return await connect(loop, factory, "127.0.0.1", port, **options)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "create_connection", led_astray)
    with pytest.raises(ImageUnavailable, match="not public"):
        fetch(f"http://photos.example:{port}/photo.png", allowed=("192.0.2.0/24",), resolver=Names("192.0.2.1"))
    assert not host.requests


@pytest.mark.parametrize(
    "target",
    ["http://10.0.0.1/", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "//[::1]/", "http://[", ""],
)
def test_redirects_are_checked_too(host: Host, target: str) -> None:
    with pytest.raises(ImageUnavailable):
        fetch(f"{host.url}/to/{quote(target, safe='')}")
    assert len(host.requests) <= 11


def test_redirects_are_followed_ten_times(host: Host) -> None:
    def chain(length: int) -> str:
        url = "/photo.png"
        for _ in range(length):
            url = f"/to/{quote(url, safe='')}"
        return host.url + url

    assert fetch(chain(10)) == PNG
    with pytest.raises(ImageUnavailable, match="more than 10 times"):
        fetch(chain(11))


def test_slow_hosts(host: Host) -> None:
    with pytest.raises(ImageUnavailable, match="did not deliver within"):
        fetch(f"{host.url}/slow", total_s=0.3)


def test_huge_bodies(host: Host) -> None:
    for headers in ({}, {"Content-Length": "10"}):
        host.pages["/huge"] = (200, headers, b"x" * (MAX_BYTES + 1))
        if headers:
            assert len(fetch(f"{host.url}/huge")) == 10
        else:
            with pytest.raises(ImageUnavailable, match="larger than 20 MB"):
                fetch(f"{host.url}/huge")


def test_compressed_bodies_are_not_inflated(host: Host) -> None:
    host.pages["/zip"] = (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b not inflated")
    with pytest.raises(ImageUnavailable, match="compressed with gzip, which this server does not expand"):
        fetch(f"{host.url}/zip")


@pytest.mark.parametrize("status", [204, 401, 404, 500])
def test_other_answers(host: Host, status: int) -> None:
    host.pages["/status"] = (status, {}, b"")
    with pytest.raises(ImageUnavailable, match=f"status {status}"):
        fetch(f"{host.url}/status")


def test_closed_ports() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ImageUnavailable, match="cannot be reached"):
            fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/")


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/photo.png", "ok"),
        ("/nowhere", "status"),
        ("/empty", "no_picture"),
        ("/page", "no_picture"),
        ("/packed", "no_picture"),
        ("/to/http%3A%2F%2F10.0.0.1%2F", "refused"),
        ("/to/ftp%3A%2F%2Fa%2F", "malformed"),
        ("/slow", "timeout"),
    ],
)
def test_what_becomes_of_a_url_is_counted(host: Host, path: str, outcome: str) -> None:
    host.released.clear()
    host.pages["/empty"] = (200, {}, b"")
    host.pages["/page"] = (200, {"Content-Type": "text/html"}, b"<html>")
    host.pages["/packed"] = (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b")
    counted: list[str] = []

    async def run() -> None:
        client = GuardedClient([ip_network("127.0.0.0/8")])
        with suppress(ImageUnavailable):
            await Fetcher(client, 0.5, counted.append).fetch(host.url + path)
        await client.close()

    asyncio.run(run())
    assert counted == [outcome]


def test_a_fetch_that_is_given_up_is_not_counted() -> None:
    counted: list[str] = []

    async def never(_host: str, _port: int) -> Sequence[Address]:
        await asyncio.sleep(60)
        return []

    async def run() -> None:
        client = GuardedClient(resolver=never)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await Fetcher(client, on_end=counted.append).fetch("http://example.com/a.png")
        await client.close()

    asyncio.run(run())
    assert counted == []


def test_ambient_proxies_are_ignored(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert fetch(f"{host.url}/photo.png") == PNG


def test_no_cookies_are_kept_between_strangers(host: Host) -> None:
    host.pages["/cookie"] = (200, {"Set-Cookie": "who=me; Path=/"}, PNG)

    async def twice() -> None:
        client = GuardedClient([ip_network("127.0.0.0/8")])
        for _ in range(2):
            assert await Fetcher(client).fetch(f"{host.url}/cookie") == PNG
        await client.close()

    asyncio.run(twice())
    assert len(host.requests) == 2
    assert not host.cookies


def test_certificates_are_those_of_the_name_not_of_the_address() -> None:
    """The handshake asks for the name; it fails, as this server has no certificate, and that is an answer too."""
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(ssl.SSLError, OSError):
            context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve, listener)
        with pytest.raises(ImageUnavailable, match="cannot be reached"):
            fetch(f"https://photos.example:{listener.getsockname()[1]}/", resolver=Names("127.0.0.1"))
        served.result(10)
    assert asked == ["photos.example"]
