"""Pictures in the store. Results need no key, as their names cannot be guessed; uploads need their owner's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response, StreamingResponse

from models.imaging.decode import FILE_MEDIA_TYPES
from server.dependencies import StoreDep, may_download
from server.errors import NotFound
from server.head import method_of
from server.openapi import error_responses, file_responses
from server.routes.ranges import Part, matches, parse_range
from workers.store.base import Store, StoredFile

router = APIRouter(tags=["files"], dependencies=[Depends(may_download)])
_Text = Annotated[str | None, Header()]
_ACCEL_REDIRECT: Final = "X-Accel-Redirect"
"""Header by which a proxy is told to send a file itself, if it has asked for that by `X-Sendfile-Type`."""


@router.get(
    "/files/{name}",
    operation_id="get_file",
    response_class=Response,
    responses={**file_responses(), **error_responses(401, 404, 416, 503)},
    openapi_extra={"security": [{}]},
)
def get_file(
    name: str,
    request: Request,
    store: StoreDep,
    wanted: Annotated[str | None, Header(alias="range")] = None,
    if_range: _Text = None,
    if_none_match: _Text = None,
    x_sendfile_type: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Download a picture, whole or in parts. It is gone an hour after its request has ended.

    A result needs no key; a picture that was uploaded with one needs that key.
    """
    found = store.find(name)
    if found is None or found.extension not in FILE_MEDIA_TYPES:
        raise _not_found()
    headers = {
        "ETag": f'"{found.token}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": f"private, immutable, max-age={int(found.ttl_s)}",
    }
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    media_type = FILE_MEDIA_TYPES[found.extension]
    is_head = method_of(request) == "HEAD"  # Range applies to GET only (RFC 9110 section 14.2)
    part = parse_range(wanted, found.size) if if_range in (None, headers["ETag"]) and not is_head else None
    path = store.path_of(found)
    if x_sendfile_type == _ACCEL_REDIRECT and path is not None:
        return Response(None, 200, {**headers, _ACCEL_REDIRECT: f"/{path}"}, media_type)
    if part is None:
        whole = Part(0, found.size)
        headers |= {"Content-Length": str(found.size)}
        if is_head:
            return Response(None, 200, headers, media_type)
        return StreamingResponse(_stream(found, whole, store), 200, headers, media_type)
    headers |= {"Content-Length": str(part.length), "Content-Range": part.content_range(found.size)}
    return StreamingResponse(_stream(found, part, store), 206, headers, media_type)


def _stream(found: StoredFile, part: Part, store: Store) -> Iterator[bytes]:
    """Open the file before the response starts: one purged meanwhile is a 404 or is read whole, never truncated."""
    chunks = store.open(found, part.start, part.length)
    if chunks is None:
        raise _not_found()
    return chunks


def _not_found() -> NotFound:
    return NotFound("There is no such file, or no longer.")
