"""The page at `/` on which pictures can be made: the files of `server/web`, under a strict Content-Security-Policy."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response

from server.errors import NotFound
from server.routes.compressed import CompressedFile, Text

_MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_INDEX: Final = "index.html"


def build_router() -> APIRouter:
    """The page and its files, read once; addresses in them are relative, so that a proxy may add a prefix."""
    router = APIRouter(include_in_schema=False)
    found = dict(_read(files("server") / "web"))

    @router.get("/")
    async def page(accept_encoding: Text = None, if_none_match: Text = None) -> Response:
        return found[_INDEX].response(accept_encoding, if_none_match)

    @router.get("/web/{path:path}")
    async def file(path: str, accept_encoding: Text = None, if_none_match: Text = None) -> Response:
        if path not in found or path == _INDEX:
            raise NotFound("There is nothing at this address.")
        return found[path].response(accept_encoding, if_none_match)

    return router


def _read(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, CompressedFile]]:
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _read(entry, f"{name}/")
        elif media_type := _MEDIA_TYPES.get(PurePosixPath(name).suffix):
            headers = {"Content-Security-Policy": _POLICY} if name == _INDEX else {}
            yield name, CompressedFile(entry.read_bytes(), media_type, headers)
