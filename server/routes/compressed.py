"""Files in memory: the page's own, and the OpenAPI document."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Final

from fastapi import Header
from fastapi.responses import Response

from server.routes.ranges import matches

Text = Annotated[str | None, Header()]
"""A request header."""
_KEEP: Final = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
"""May be cached, but must be revalidated."""
_NOT_AT_ALL: Final = re.compile(r"q=0(\.0*)?")


@dataclass(frozen=True)
class CompressedFile:
    """A file in memory that is sent compressed to those who take it so."""

    content: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _gzipped(self) -> bytes:
        return gzip.compress(self.content, mtime=0)

    @cached_property
    def _etag(self) -> str:
        return f'"{sha256(self.content).hexdigest()[:16]}"'

    def response(self, accept_encoding: str | None, if_none_match: str | None) -> Response:
        """The response to a GET or HEAD with these request headers."""
        headers = {**_KEEP, **self.headers, "ETag": f"W/{self._etag}"}
        if matches(if_none_match, self._etag):
            return Response(status_code=304, headers=headers)
        if not _takes_gzip(accept_encoding) or self.media_type == "image/jpeg":
            return Response(self.content, headers=headers, media_type=self.media_type)
        return Response(self._gzipped, headers={**headers, "Content-Encoding": "gzip"}, media_type=self.media_type)


def _takes_gzip(accept_encoding: str | None) -> bool:
    """Whether an Accept-Encoding header names gzip, and does not refuse it by a weight of 0."""
    for coding in (accept_encoding or "").lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return not _NOT_AT_ALL.fullmatch(weight.strip())
    return False
