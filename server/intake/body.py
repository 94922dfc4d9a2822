"""Parses request bodies (JSON, multipart, urlencoded) into one dictionary."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final, Never
from urllib.parse import parse_qsl

from anyio.to_thread import run_sync
from fastapi import Request
from pydantic_core import from_json

from models.params import CommonParams
from server.errors import BadRequest
from server.intake.images import restore_plus_signs
from server.intake.multipart import MAX_PARTS, parse_multipart

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
