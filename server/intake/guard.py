"""HTTP to URLs of callers, guarded against server-side request forgery: images are fetched by it, webhooks sent.

A host name is resolved once, all of its addresses must be public, and the connection is made to the address that was
checked, so DNS rebinding has no effect. The peer address of the connection is checked again before a request is sent.
No redirect is followed here; who follows one has it checked as a new URL.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import httpx

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]
"""Returns all addresses of (host, port); raises `OSError` if there are none."""

CONNECT_S: Final = 5.0
TOTAL_S: Final = 15.0
"""Time limit of a whole exchange, which callers keep; each read and write has the same."""
USER_AGENT: Final = "facelight"
_NAT64: Final = ip_network("64:ff9b::/96")
_REFUSED: Final = tuple(
    map(
        ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "2001::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10"),
    )
)
"""Protocol assignments (RFC 6890), 6to4 and its relays (RFC 3068), Teredo (RFC 4380), documentation (RFC 9637), segment
routing (RFC 9602), old site-local addresses: some version of the standard library counts each of them as global."""
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)
"""Upper half of the interface identifier of a tunnel to the IPv4 address in the lower half (RFC 5214, 6.1)."""
_BLOCKED_ADDRESS: Final = {
    False: "the URL leads to an address that is not public",
    True: "this server works offline, and the URL leads out of the networks that it may reach",
}


class Blocked(Exception):
    """The guard lets nothing through to a URL; `str()` says why, without naming an address."""


class NotHttp(Blocked):
    """It is no http(s) URL of a host."""


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, an IPv4 address inside of it included.

    The IANA special-purpose registries decide (RFC 6890), and multicast, reserved space and tunnels are not public.
    """
    inner = _ipv4_inside(address)
    if inner is not None:
        return is_public(inner)
    refused = address.is_reserved or address.is_multicast or any(address in network for network in _REFUSED)
    return address.is_global and not refused and not _is_isatap(address)


def _is_isatap(address: Address) -> bool:
    return address.version == 6 and (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP


def _ipv4_inside(address: Address) -> IPv4Address | None:
    """The IPv4 address that packets to `address` end at: IPv4-mapped (RFC 4291) and well-known NAT64 (RFC 6052)."""
    if isinstance(address, IPv4Address):
        return None
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.ipv4_mapped


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Resolve with the system's resolver; it also accepts octal, hexadecimal and integer forms of IPv4."""
    found = await asyncio.to_thread(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    return [ip_address(entry[4][0]) for entry in found]


def trust(ca_file: Path | None = None) -> ssl.SSLContext:
    """The TLS context that trusts the public certificate authorities and those of the PEM file `ca_file`.

    SSL_CERT_FILE and SSL_CERT_DIR replace the public ones, as usual. Raises `OSError` for files that cannot be read or
    contain no certificates.
    """
    context = httpx.create_ssl_context()
    # Default since Python 3.13; it rejects authorities that violate RFC 5280, as those of companies often do. Browsers
    # and earlier versions accept them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


class GuardedClient:
    """Sends http(s) requests to public addresses and to the networks `allowed`.

    With `offline` only to `allowed`; if that is empty, no name is resolved at all.
    """

    def __init__(
        self,
        allowed: Sequence[Network] = (),
        offline: bool = False,
        resolver: Resolver = resolve,
        tls: ssl.SSLContext | None = None,
        user_agent: str = USER_AGENT,
    ) -> None:
        self._allowed = allowed
        self._offline = offline
        self._resolver = resolver
        # A kept-alive connection would be reused for another name at the same address without checking its certificate.
        self._client = httpx.AsyncClient(
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S),
            limits=httpx.Limits(max_keepalive_connections=0),
            verify=tls or trust(),
            headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
        )

    @asynccontextmanager
    async def stream(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None = None
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; its response's body is still to be read. Raises `Blocked`, `httpx.HTTPError`, `OSError`."""
        pinned = url.copy_with(host=str(await self.check(url)))
        headers = {**headers, "Host": url.netloc.decode("ascii")}
        extensions = {"sni_hostname": url.raw_host.decode("ascii"), "trace": self._check_peer}
        async with self._client.stream(
            method, pinned, headers=headers, content=content, extensions=extensions
        ) as response:
            yield response

    async def check(self, url: httpx.URL) -> Address:
        """The address that a URL leads to; raises `Blocked` if any of its addresses is, `OSError` if there is none."""
        if url.scheme not in ("http", "https") or not url.host:
            raise NotHttp("the URL does not lead to an http(s) address")
        if self._offline and not self._allowed:
            raise Blocked("this server works offline and reaches no URLs")
        addresses = await self._resolver(url.host, url.port or (443 if url.scheme == "https" else 80))
        if not addresses or not all(map(self._may_reach, addresses)):
            raise Blocked(_BLOCKED_ADDRESS[self._offline])
        return addresses[0]

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _check_peer(self, event: str, details: Mapping[str, Any]) -> None:
        """httpcore's trace callback: checks the peer address when a connection is made, before a request is sent."""
        if event == "connection.connect_tcp.complete":
            stream = details["return_value"]
            if not self._may_reach(ip_address(stream.get_extra_info("server_addr")[0])):
                await stream.aclose()
                raise Blocked(_BLOCKED_ADDRESS[self._offline])

    def _may_reach(self, address: Address) -> bool:
        inner = _ipv4_inside(address) or address
        allowed = any(inner in network for network in self._allowed)
        return allowed or (is_public(address) and not self._offline)


def explain(error: Exception) -> str:
    """Why a URL cannot be reached, in words for its caller."""
    if isinstance(error, Blocked):
        return str(error)
    if isinstance(error, httpx.InvalidURL | ValueError):
        return "the URL is malformed"
    if is_certificate_error(error):
        return "the URL's host has a certificate that this server does not trust"
    return "the URL cannot be reached"


def is_certificate_error(error: BaseException | None) -> bool:
    """Whether an error was caused by certificate verification."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None
