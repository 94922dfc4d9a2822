"""Fetches images from URLs of callers, through the guard; each redirect is checked as a new URL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final

import httpx

from models.imaging.decode import MAX_BYTES
from server.errors import RETRY_AFTER_S, ImageUnavailable, TooManyRequests
from server.intake.guard import TOTAL_S, Blocked, GuardedClient, NotHttp, explain, is_certificate_error

MAX_REDIRECTS: Final = 10
SLOT_TIMEOUT_S: Final = 15.0
"""How long a fetch waits for a slot of its caller."""
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
    """Fetches images by a guarded client, each within `total_s` seconds; `on_end` is told what became of each URL."""

    def __init__(
        self, client: GuardedClient, total_s: float = TOTAL_S, on_end: Callable[[FetchOutcome], None] | None = None
    ) -> None:
        self._client = client
        self._total_s = total_s
        self._on_end = on_end or (lambda _outcome: None)

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
        except (Blocked, httpx.InvalidURL, httpx.HTTPError, ValueError, OSError) as error:
            raise FetchFailed(_outcome_of(error), explain(error)) from error

    async def _follow(self, url: httpx.URL) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            found = await self._get(url)
            if isinstance(found, bytes):
                return found
            url = found
        raise FetchFailed(FetchOutcome.REDIRECTS, f"the URL redirects more than {MAX_REDIRECTS} times")

    async def _get(self, url: httpx.URL) -> bytes | httpx.URL:
        """The body at `url`, or the URL that it redirects to."""
        async with self._client.stream("GET", url, {"Accept": "image/*"}) as response:
            if response.has_redirect_location:
                return url.join(response.headers["location"])
            if response.status_code not in (200, 203):  # 203: a proxy has changed something on the way
                raise FetchFailed(FetchOutcome.STATUS, f"the URL was answered with status {response.status_code}")
            body = await _read(response)
            _check_body(response.headers, body)
            return body


def _outcome_of(error: Exception) -> FetchOutcome:
    if isinstance(error, NotHttp | httpx.InvalidURL | ValueError):
        return FetchOutcome.MALFORMED
    if isinstance(error, Blocked):
        return FetchOutcome.REFUSED
    return FetchOutcome.CERTIFICATE if is_certificate_error(error) else FetchOutcome.UNREACHABLE


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
