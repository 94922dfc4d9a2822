"""Fetches images from URLs of callers, guarded against server-side request forgery.

A host name is resolved once, all of its addresses must be public, and the connection is made to the address that was
checked, so DNS rebinding has no effect. The peer address of the connection is checked again before a request is sent.
Each redirect is checked as a new URL.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import httpx

from models.imaging.decode import MAX_BYTES
from server.errors import RETRY_AFTER_S, ImageUnavailable, TooManyRequests

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]
"""Returns all addresses of (host, port); raises `OSError` if there are none."""

CONNECT_S: Final = 5.0
TOTAL_S: Final = 15.0
MAX_REDIRECTS: Final = 10
SLOT_TIMEOUT_S: Final = 15.0
"""How long a fetch waits for a slot of its caller."""
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
    True: "this server works offline, and the URL leads out of the networks that it may fetch from",
}


_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,60}/[a-z0-9!#$&^_.+-]{1,60}")
_UNSPECIFIC: Final = ("", "application/octet-stream", "binary/octet-stream", "application/x-download")
"""Media types that say nothing about the content; its first bytes decide."""
_IMAGE_SIGNATURE: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF.{4}WEBP|.{4}ftyp(avi[fs]|he[iv][a-z]|mif1|msf1)|GIF8|BM.{4}\0{4}|II\*\0|MM\0\*"
    rb"|\xff\x0a|\0\0\0\x0cJXL ",
    re.DOTALL,
)
"""First bytes of image formats; they take precedence over the media type."""
_GZIP: Final = b"\x1f\x8b"
_MARKUP: Final = re.compile(rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE)


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


class FetchOutcome(StrEnum):
    """What became of a URL, as it is counted; the caller is told in words."""

    OK = "ok"
    MALFORMED = "malformed"
    REFUSED = "refused"
    """Its host has an address that may not be asked, or this server works offline."""
    UNREACHABLE = "unreachable"
    CERTIFICATE = "certificate"
    TIMEOUT = "timeout"
    STATUS = "status"
    REDIRECTS = "redirects"
    TOO_LARGE = "too_large"
    NO_PICTURE = "no_picture"


class FetchFailed(ImageUnavailable):
    """A URL that cannot be fetched."""

    def __init__(self, outcome: FetchOutcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Fetcher:
    """Fetches images by http(s) from public addresses and from the networks `allowed`.

    With `offline` only from `allowed`; if that is empty, no name is resolved at all. `ca_file`: see `trust`. `on_end`
    is told what became of each URL.
    """

    def __init__(
        self,
        allowed: Sequence[Network] = (),
        offline: bool = False,
        resolver: Resolver = resolve,
        total_s: float = TOTAL_S,
        ca_file: Path | None = None,
        user_agent: str = USER_AGENT,
        on_end: Callable[[FetchOutcome], None] | None = None,
    ) -> None:
        self._allowed = allowed
        self._offline = offline
        self._resolver = resolver
        self._total_s = total_s
        self._on_end = on_end or (lambda _outcome: None)
        # A kept-alive connection would be reused for another name at the same address without checking its certificate.
        self._client = httpx.AsyncClient(
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            timeout=httpx.Timeout(total_s, connect=CONNECT_S),
            limits=httpx.Limits(max_keepalive_connections=0),
            verify=trust(ca_file),
            headers={"User-Agent": user_agent, "Accept": "image/*", "Accept-Encoding": "identity"},
        )

    async def fetch(self, url: str) -> bytes:
        """Download at most `MAX_BYTES` within the time limit; raises `FetchFailed` with a message."""
        try:
            data = await self._fetch(url)
        except FetchFailed as error:
            self._on_end(error.outcome)
            raise
        self._on_end(FetchOutcome.OK)
        return data

    async def _fetch(self, url: str) -> bytes:
        try:
            async with asyncio.timeout(self._total_s):
                return await self._follow(httpx.URL(url))
        except TimeoutError as error:
            raise FetchFailed(
                FetchOutcome.TIMEOUT, f"the URL did not deliver within {self._total_s:g} seconds"
            ) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise FetchFailed(FetchOutcome.MALFORMED, "the URL is malformed") from error
        except (httpx.HTTPError, OSError) as error:
            if _is_certificate_error(error):
                raise FetchFailed(
                    FetchOutcome.CERTIFICATE, "the URL's host has a certificate that this server does not trust"
                ) from error
            raise FetchFailed(FetchOutcome.UNREACHABLE, "the URL cannot be reached") from error

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _follow(self, url: httpx.URL) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            found = await self._get(url)
            if isinstance(found, bytes):
                return found
            url = found
        raise FetchFailed(FetchOutcome.REDIRECTS, f"the URL redirects more than {MAX_REDIRECTS} times")

    async def _get(self, url: httpx.URL) -> bytes | httpx.URL:
        """The body at `url`, or the URL that it redirects to."""
        pinned = url.copy_with(host=str(await self._checked_address(url)))
        headers = {"Host": url.netloc.decode("ascii")}
        extensions = {"sni_hostname": url.raw_host.decode("ascii"), "trace": self._check_peer}
        async with self._client.stream("GET", pinned, headers=headers, extensions=extensions) as response:
            if response.has_redirect_location:
                return url.join(response.headers["location"])
            if response.status_code not in (200, 203):  # 203: a proxy has changed something on the way
                raise FetchFailed(FetchOutcome.STATUS, f"the URL was answered with status {response.status_code}")
            body = await _read(response)
            _check_body(response.headers, body)
            return body

    async def _checked_address(self, url: httpx.URL) -> Address:
        if url.scheme not in ("http", "https") or not url.host:
            raise FetchFailed(FetchOutcome.MALFORMED, "the URL does not lead to an http(s) address")
        if self._offline and not self._allowed:
            raise FetchFailed(
                FetchOutcome.REFUSED, "this server works offline and fetches no URLs: send the picture itself"
            )
        addresses = await self._resolver(url.host, url.port or (443 if url.scheme == "https" else 80))
        if not addresses or not all(map(self._may_reach, addresses)):
            raise FetchFailed(FetchOutcome.REFUSED, _BLOCKED_ADDRESS[self._offline])
        return addresses[0]

    async def _check_peer(self, event: str, details: Mapping[str, Any]) -> None:
        """httpcore's trace callback: checks the peer address when a connection is made, before a request is sent."""
        if event == "connection.connect_tcp.complete":
            stream = details["return_value"]
            if not self._may_reach(ip_address(stream.get_extra_info("server_addr")[0])):
                await stream.aclose()
                raise FetchFailed(FetchOutcome.REFUSED, _BLOCKED_ADDRESS[self._offline])

    def _may_reach(self, address: Address) -> bool:
        inner = _ipv4_inside(address) or address
        allowed = any(inner in network for network in self._allowed)
        return allowed or (is_public(address) and not self._offline)


def _is_certificate_error(error: BaseException | None) -> bool:
    """Whether an error was caused by certificate verification."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BYTES:
            raise FetchFailed(FetchOutcome.TOO_LARGE, f"the image is larger than {MAX_BYTES // 1024**2} MB")
    return bytes(body)


def _check_body(headers: httpx.Headers, body: bytes) -> None:
    """Raise `FetchFailed` that describes the body if it is not an image; its first bytes decide."""
    if not body:
        raise FetchFailed(FetchOutcome.NO_PICTURE, "the URL was answered with an empty body")
    if _IMAGE_SIGNATURE.match(body):
        return
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and not _MEDIA_TYPE.fullmatch(media_type):
        media_type = "an unknown media type"
    if _MARKUP.match(body):
        media_type = "text/html"
    encoding = headers.get("content-encoding", "").strip().lower()
    if body.startswith(_GZIP):
        encoding = "gzip"
    if encoding in ("gzip", "x-gzip", "deflate", "br", "zstd", "compress"):
        compressed = f"{media_type} compressed" if media_type else "a body compressed"
        raise FetchFailed(
            FetchOutcome.NO_PICTURE,
            f"the URL was answered with {compressed} with {encoding}, which this server does not expand",
        )
    if not media_type.startswith("image/") and media_type not in _UNSPECIFIC:
        raise FetchFailed(FetchOutcome.NO_PICTURE, f"the URL was answered with {media_type}, not a picture")


class FetchSlots:
    """Limits concurrent fetches to `count` per owner, so that slow hosts delay only the caller that names them."""

    def __init__(self, count: int, timeout_s: float = SLOT_TIMEOUT_S) -> None:
        self._count = count
        self._timeout_s = timeout_s
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def slot(self, owner: str) -> AsyncIterator[None]:
        """Hold one of the owner's slots; raises `TooManyRequests` if none is free within the timeout."""
        semaphore = self._semaphores.setdefault(owner, asyncio.Semaphore(self._count))
        self._users[owner] = self._users.get(owner, 0) + 1
        try:
            await self._acquire(semaphore)
            try:
                yield
            finally:
                semaphore.release()
        finally:
            self._users[owner] -= 1
            if not self._users[owner]:
                del self._users[owner], self._semaphores[owner]

    async def _acquire(self, semaphore: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await semaphore.acquire()
        except TimeoutError as error:
            message = f"{self._count} pictures are being fetched for this caller already. Try again later."
            raise TooManyRequests(message, headers={"Retry-After": str(RETRY_AFTER_S)}) from error
