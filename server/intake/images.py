"""Pictures that callers name: an address, a data URI, base64, a file part, or a picture that this server keeps."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

import pybase64
from anyio.to_thread import run_sync

from models.imaging.decode import FILE_EXTENSIONS, check, detect_format, size_in_header
from server.dependencies import Gateway
from server.errors import ImageUnavailable
from server.urls import FILES, UrlBuilder
from workers.store.base import may_read

_SMALL: Final = 64 * 1024
"""Bytes of text that is decoded sooner (in under 0.2 ms) than a thread has taken it over."""
_SMALL_PX: Final = 512 * 512
"""Of a picture that decodes to 1 MB in a few ms."""
_WHITE_SPACE: Final = b" \t\n\r\f\v"
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_DATA_HEADER: Final = re.compile(r'data:(?:(?:[^,"]++|"[^"]*+")*+,|[^,]*+,)', re.IGNORECASE)
"""Up to the comma before the payload; a comma within quotation marks is part of a parameter."""
PRIVATE_EXTENSION: Final = "bin"
"""Of stored inputs: nobody is ever told their names, and `/files/` does not serve them."""


def is_at_hand(reference: str | bytes, urls: UrlBuilder) -> bool:
    """Whether a picture came with the request: nothing has to be read or fetched to have it."""
    return isinstance(reference, bytes) or not (_is_url(reference) or urls.file_name(reference) is not None)


async def load_image(reference: str | bytes, owner: str, gateway: Gateway, urls: UrlBuilder) -> bytes:
    """Get the encoded picture that `reference` names to a caller called `owner`, checked by decoding it once.

    Raises `ImageUnavailable` if it cannot be had, `UnreadableImage` if it is no picture that is accepted.
    """
    data = await _get(reference, owner, gateway, urls)
    await _check(data, gateway)
    return data


async def load_data_url(url: str, gateway: Gateway) -> tuple[bytes, str]:
    """Decode and check a picture given as a data URI; returns it with its file name extension. Raises as above."""
    if not _is_data_url(url):
        raise ImageUnavailable("must be a data URL such as data:image/png;base64,iVBORw0…")
    data = await run_sync(parse_data_url, url)
    await _check(data, gateway)
    return data, FILE_EXTENSIONS[detect_format(data)]


async def _check(data: bytes, gateway: Gateway) -> None:
    if len(data) > _SMALL or not await run_sync(_check_small, data):
        await run_sync(check, data, limiter=gateway.decoders)


def _check_small(data: bytes) -> bool:
    """Check a picture that takes so little time and memory that it needs no place among the decoders; False if not."""
    size = size_in_header(data)
    if size is None or size[0] * size[1] > _SMALL_PX:
        return False
    check(data)
    return True


async def _get(reference: str | bytes, owner: str, gateway: Gateway, urls: UrlBuilder) -> bytes:
    if isinstance(reference, bytes):
        return reference
    if (name := urls.file_name(reference)) is not None:
        return await run_sync(_read_own, name, owner, gateway)
    if _is_url(reference):
        async with gateway.fetch_slots.place(owner):
            return await gateway.fetcher.fetch(reference)
    parse = parse_data_url if _is_data_url(reference) else parse_base64
    return parse(reference) if len(reference) <= _SMALL else await run_sync(parse, reference)


def _read_own(name: str, owner: str, gateway: Gateway) -> bytes:
    forbidden = name.endswith(f".{PRIVATE_EXTENSION}") or not may_read(name, owner)
    data = None if forbidden else gateway.store.read(name)
    if data is None:
        raise ImageUnavailable("this server has no such file, or no longer")
    return data


def parse_data_url(url: str) -> bytes:
    """Decode a data URI (RFC 2397), base64 or percent-encoded; raises `ImageUnavailable`.

    Base64 may be percent-encoded besides. Its mark may have blanks around it, and parameters before and behind it.
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

    White space counts as nothing, and what is percent-encoded is decoded first.
    """
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:  # most are in order, and to look for what may be amiss takes longer than to decode
        return _parse_sloppy_base64(text)


def _parse_sloppy_base64(text: str) -> bytes:
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
    """Mend a picture of an urlencoded form whose client left the plus signs of its base64 as they were.

    Each has become a blank. Those at the end are told from mere blanks by the length of the whole.
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
