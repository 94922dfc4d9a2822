"""Pictures in the store. Whoever knows a result's name may have it: names cannot be guessed. Uploads have an owner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response, StreamingResponse

from models.imaging.decode import FILE_MEDIA_TYPES
from server.auth import may_download
from server.dependencies import Gateway, gateway_of
from server.errors import NotFound
from server.http.head import method_of
from server.openapi import error_responses, file_responses
from server.routes.ranges import Part, matches, parse_range
from workers.store.base import StoredFile

router = APIRouter(tags=["files"], dependencies=[Depends(may_download)])
_Text = Annotated[str | None, Header()]


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
    wanted: Annotated[str | None, Header(alias="range")] = None,
    if_range: _Text = None,
    if_none_match: _Text = None,
) -> Response:
    """Download a picture, whole or in parts. It is gone an hour after its request has ended.

    A result needs no key; a picture that was uploaded with one needs that key.
    """
    gateway = gateway_of(request)
    found = _find(name, gateway)
    headers = _headers(found)
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    media_type = FILE_MEDIA_TYPES[found.extension]
    headers_only = method_of(request) == "HEAD"  # for which a range means nothing (RFC 9110 section 14.2)
    part = parse_range(wanted, found.size) if if_range in (None, headers["ETag"]) and not headers_only else None
    if part is None:
        whole = Part(0, found.size)
        headers |= {"Content-Length": str(found.size)}
        if headers_only:
            return Response(None, 200, headers, media_type)
        return StreamingResponse(_stream(found, whole, gateway), 200, headers, media_type)
    headers |= {"Content-Length": str(part.length), "Content-Range": part.content_range(found.size)}
    return StreamingResponse(_stream(found, part, gateway), 206, headers, media_type)


def _find(name: str, gateway: Gateway) -> StoredFile:
    found = gateway.store.find(name)
    if found is None or found.extension not in FILE_MEDIA_TYPES:
        raise _gone()
    return found


def _headers(found: StoredFile) -> dict[str, str]:
    return {
        "ETag": f'"{found.token}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": f"private, immutable, max-age={int(found.ttl_s)}",
    }


def _stream(found: StoredFile, part: Part, gateway: Gateway) -> Iterator[bytes]:
    """Open the file at once, so that one swept away meanwhile is a 404 or is read to its end, never torn."""
    chunks = gateway.store.open(found, part.start, part.length)
    if chunks is None:
        raise _gone()
    return chunks


def _gone() -> NotFound:
    return NotFound("There is no such file, or no longer.")
