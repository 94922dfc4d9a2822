"""Parses request bodies (JSON, multipart, urlencoded) into one dictionary."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Never
from urllib.parse import parse_qsl

from anyio.to_thread import run_sync
from fastapi import Request
from pydantic_core import from_json
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from models.params import CommonParams
from server.errors import BadRequest
from server.intake.images import restore_plus_signs

_SMALL: Final = 64 * 1024
"""Bytes of a body that is parsed in the event loop (under 0.5 ms): a thread would take longer."""

Body = dict[str, Any]
"""Values by field name; a file part's value is its bytes. Of a repeated field the last one counts."""


async def read_body(request: Request, shape: type[CommonParams] | None = None) -> Body:
    """Read a JSON, multipart or urlencoded body; raises `BadRequest` if it is none, or is malformed.

    `shape` says which fields of a form are pictures, and in which of them empty text is a value. In all others empty
    text counts as absent, as browsers send every field of a form.
    """
    pictures = shape.image_fields if shape else ()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        content_type = request.headers["content-type"]
        return _without_empty(await parse_multipart(content_type, request.stream(), pictures), shape)
    parse = _parser_of(media_type)
    data = await request.body()
    body = parse(data) if len(data) <= _SMALL else await run_sync(parse, data)
    if parse is not parse_urlencoded:
        return body
    restored = {name: restore_plus_signs(body[name]) for name in pictures if name in body}
    return _without_empty({**body, **restored}.items(), shape)


def _parser_of(media_type: str) -> Callable[[bytes], Body]:
    if media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json")):
        return parse_json
    if media_type == "application/x-www-form-urlencoded":
        return parse_urlencoded
    raise BadRequest(
        "Send the parameters as application/json, multipart/form-data or application/x-www-form-urlencoded."
    )


def parse_json(data: bytes) -> Body:
    """Parse a JSON object (RFC 8259: no NaN, no infinities)."""
    try:
        # Twenty times as fast on the long strings of images, and stricter: the other accepts UTF-16, for example.
        body = from_json(data, allow_inf_nan=False)
    except ValueError:
        body = _parse_json_lenient(data)
    if not isinstance(body, dict):
        raise BadRequest("The request body must be a JSON object.")
    return body


def _parse_json_lenient(data: bytes) -> Any:
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # ValueError also: bad Unicode, numbers of thousands of digits
        raise BadRequest("The request body is not valid JSON.") from error


def parse_urlencoded(data: bytes) -> Body:
    """Parse the fields of an HTML form."""
    try:
        text = data.decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARTS, errors="strict"))
    except ValueError as error:
        raise BadRequest("The request body is not a valid urlencoded form in UTF-8.") from error


def _without_empty(fields: Iterable[tuple[str, str | bytes]], shape: type[CommonParams] | None) -> Body:
    """Fields of a form without those that were left empty."""
    texts = shape.text_fields() if shape else ()
    return {name: value for name, value in fields if name in texts or not isinstance(value, str) or value.strip()}


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is no JSON")


MAX_PARTS: Final = 200
"""Fields of a form, in any encoding."""
_TEXT_TYPES: Final = (b"application/json", b"application/x-www-form-urlencoded")
"""Media types, besides `text/…`, of parts that hold a field's text."""
Fields = list[tuple[str, str | bytes]]
"""(name, text or the bytes of a file), in the order of the body."""


async def parse_multipart(content_type: str, chunks: AsyncIterable[bytes], pictures: Collection[str]) -> Fields:
    """Parse a body whose header is `content_type`; raises `BadRequest` if it is malformed or cut short.

    A part is a file if it has a file name, or a Content-Type that is not one of text; also if it is one of `pictures`,
    the names of fields that may be files, and holds what is no text. The file field of a browser's form in which
    nothing was chosen, without a name and without content, is left out.
    """
    _, options = parse_options_header(content_type)
    charset = options.get(b"charset", b"utf-8").decode("latin-1")
    form = _Form()
    try:
        if not options.get(b"boundary"):
            raise BadRequest("The Content-Type of a multipart body must name its boundary.")
        parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": form.begin_part,
                "on_header_field": form.add_to_header_name,
                "on_header_value": form.add_to_header_value,
                "on_header_end": form.end_header,
                "on_part_data": form.add_to_content,
                "on_end": form.end,
            },
        )
        async for chunk in chunks:
            parser.write(chunk)
        if not form.is_complete:  # the parser itself takes the end of the data for the end of the form
            raise BadRequest("The multipart body was cut short: its closing delimiter is missing.")
        fields = [(part.name(charset), part.value(charset, pictures)) for part in form.parts]
    except (ValueError, LookupError) as error:  # the parser's own, a strange encoding; a part without a name
        raise BadRequest(
            "The request body is not a valid multipart form, or does not begin with the boundary that its Content-Type "
            "names."
        ) from error
    return [(name, value) for name, value in fields if value is not None]


@dataclass
class _Part:
    """One part: its header by names in lower case, and its content."""

    header: dict[bytes, bytes] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)

    def name(self, charset: str) -> str:
        return _decode(self._disposition()[b"name"], charset)

    def value(self, charset: str, pictures: Collection[str]) -> str | bytes | None:
        """Text or the bytes of a file; None for a file field in which nothing was chosen."""
        media_type, options = parse_options_header(self.header.get(b"content-type", b""))
        file_name = self._disposition().get(b"filename")
        if file_name is not None:
            return bytes(self.content) if self.content or file_name else None
        if media_type and not media_type.startswith(b"text/") and media_type not in _TEXT_TYPES:
            return bytes(self.content)
        own_charset = options.get(b"charset", b"").decode("latin-1") or charset
        if self.name(charset) not in pictures:
            return _decode(self.content, own_charset)
        try:
            return self.content.decode(own_charset)
        except (UnicodeDecodeError, LookupError):
            return bytes(self.content)

    def _disposition(self) -> dict[bytes, bytes]:
        return parse_options_header(self.header.get(b"content-disposition", b""))[1]


class _Form:
    """Collects parts by the callbacks of the parser."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.is_complete = False
        self._header_name = bytearray()
        self._header_value = bytearray()

    def begin_part(self) -> None:
        """The delimiter before a part."""
        self.parts.append(_Part())
        if len(self.parts) > MAX_PARTS:
            raise FormParserError(f"more than {MAX_PARTS} parts")

    def add_to_header_name(self, data: bytes, start: int, end: int) -> None:
        """Some bytes of a header field's name."""
        self._header_name += data[start:end]

    def add_to_header_value(self, data: bytes, start: int, end: int) -> None:
        """Some bytes of a header field's value."""
        self._header_value += data[start:end]

    def end_header(self) -> None:
        """A header field is complete."""
        self.parts[-1].header[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def add_to_content(self, data: bytes, start: int, end: int) -> None:
        """Some bytes of a part's content."""
        self.parts[-1].content += data[start:end]

    def end(self) -> None:
        """The closing delimiter. What follows it is no part of the form."""
        self.is_complete = True


def _decode(data: bytes | bytearray, charset: str) -> str:
    """Text in `charset`, or in Latin-1 if it is not in it, or that is no text encoding."""
    try:
        return data.decode(charset)
    except (UnicodeDecodeError, LookupError):
        return data.decode("latin-1")
