"""The image fields of a request: a URL, a data URI, base64, a file part, or the URL of an uploaded image."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

import pybase64
from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from models.imaging.decode import FILE_EXTENSIONS, check, detect_format, size_in_header
from server.errors import ImageUnavailable
from server.intake.fetcher import Fetcher, FetchSlots
from server.urls import FILES, UrlBuilder
from workers.store.base import Store, may_read

_DECODERS: Final = 4
"""Images decoded at the same time: each may take 100 MB of memory."""
_SMALL: Final = 64 * 1024
"""Bytes of text that is decoded in the event loop (under 0.2 ms): a thread would take longer."""
_SMALL_PX: Final = 512 * 512
"""Pixels of an image that decodes to 1 MB in a few ms."""
_WHITE_SPACE: Final = b" \t\n\r\f\v"
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_DATA_HEADER: Final = re.compile(r'data:(?:(?:[^,"]++|"[^"]*+")*+,|[^,]*+,)', re.IGNORECASE)
"""Up to the comma before the payload; a comma within quotation marks is part of a parameter."""
PRIVATE_EXTENSION: Final = "bin"
"""File name extension of stored inputs: their names are never sent to clients, and `/files/` does not serve them."""


def is_inline(reference: str | bytes, urls: UrlBuilder) -> bool:
    """Whether the request itself contains the image: nothing has to be read from the store or fetched."""
    return isinstance(reference, bytes) or not (_is_url(reference) or urls.file_name(reference) is not None)


class ImageLoader:
    """Loads the images that callers refer to, and checks each by decoding it once."""

    def __init__(self, store: Store, fetcher: Fetcher, fetch_slots: FetchSlots) -> None:
        self._store = store
        self._fetcher = fetcher
        self._fetch_slots = fetch_slots
        self._decoders = CapacityLimiter(_DECODERS)

    async def load(self, reference: str | bytes, owner: str, urls: UrlBuilder) -> bytes:
        """The encoded image that `reference` of caller `owner` means: a file, URL, data URI or base64.

        Raises `ImageUnavailable` if it cannot be had, `UnreadableImage` if it is not an accepted image.
        """
        if isinstance(reference, bytes):
            data = reference
        elif (name := urls.file_name(reference)) is not None:
            data = await run_sync(self._read_uploaded, name, owner)
        elif _is_url(reference):
            async with self._fetch_slots.slot(owner):
                data = await self._fetcher.fetch(reference)
        else:
            parse = parse_data_url if _is_data_url(reference) else parse_base64
            data = parse(reference) if len(reference) <= _SMALL else await run_sync(parse, reference)
        await self._check(data)
        return data

    async def load_data_url(self, url: str) -> tuple[bytes, str]:
        """Decode and check the image of a data URI; returns it with its file name extension. Raises as `load`."""
        if not _is_data_url(url):
            raise ImageUnavailable("must be a data URL such as data:image/png;base64,iVBORw0…")
        data = await run_sync(parse_data_url, url)
        await self._check(data)
        return data, FILE_EXTENSIONS[detect_format(data)]

    def _read_uploaded(self, name: str, owner: str) -> bytes:
        forbidden = name.endswith(f".{PRIVATE_EXTENSION}") or not may_read(name, owner)
        data = None if forbidden else self._store.read(name)
        if data is None:
            raise ImageUnavailable("this server has no such file, or no longer")
        return data

    async def _check(self, data: bytes) -> None:
        if len(data) > _SMALL or not await run_sync(_check_small, data):
            await run_sync(check, data, limiter=self._decoders)


def _check_small(data: bytes) -> bool:
    """Check an image so small that it needs no decoder slot; False if it is not."""
    size = size_in_header(data)
    if size is None or size[0] * size[1] > _SMALL_PX:
        return False
    check(data)
    return True


def parse_data_url(url: str) -> bytes:
    """Decode a data URI (RFC 2397), base64 or percent-encoded; raises `ImageUnavailable`.

    Base64 may be percent-encoded besides. `;base64` may have blanks around it, and parameters before and after it.
    """
    header, payload, is_base64 = _split_data_url(url)
    if not header:
        raise ImageUnavailable("the data URI is malformed")
    return parse_base64(payload) if is_base64 else unquote_to_bytes(payload)


def _split_data_url(url: str) -> tuple[str, str, bool]:
    """A data URI's header with its comma, its payload, and whether that is base64; no header if it is malformed."""
    found = _DATA_HEADER.match(url)
    if found is None:
        return "", url, False
    parameters = {parameter.strip().lower() for parameter in found[0][:-1].split(";")[1:]}
    return found[0], url[found.end() :], "base64" in parameters


def parse_base64(text: str) -> bytes:
    """Decode base64, standard or URL-safe, with or without padding; raises `ImageUnavailable`.

    White space is ignored; percent-encoding is decoded first.
    """
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:  # strict first: normalizing takes longer than decoding
        return _parse_lenient_base64(text)


def _parse_lenient_base64(text: str) -> bytes:
    try:
        # Bytes, since these steps take a tenth of the time that they take with text.
        encoded = "".join(text.split()).encode("ascii")
        if b"%" in encoded:
            encoded = unquote_to_bytes(encoded)
        compact = encoded.translate(_STANDARD, _WHITE_SPACE).rstrip(b"=")
        return pybase64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)
    except ValueError as error:
        raise ImageUnavailable("must be an http(s) URL, a data URI or base64 of a picture") from error


def restore_plus_signs(reference: str) -> str:
    """Restore the plus signs of base64 in an urlencoded form whose client did not escape them.

    Each was decoded as a blank. Those at the end are distinguished from mere blanks by the length of the base64.
    """
    text = reference.strip("\t\n\r\f\v").lstrip()
    header, payload, is_base64 = _split_data_url(text) if _is_data_url(text) else ("", text, True)
    if not is_base64 or " " not in payload or _is_url(text) or text.startswith(FILES):
        return reference
    inner = payload.strip(" ")
    length = len(inner) - sum(map(inner.count, "\t\n\r"))
    lost = min(-length % 4, len(payload) - len(payload.rstrip(" ")))
    return header + inner.replace(" ", "+") + "+" * lost


def _is_url(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def _is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"
