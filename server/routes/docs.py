"""The OpenAPI document and the page that shows it. All of its assets are this server's own."""

from __future__ import annotations

import base64
import json
import re
from hashlib import sha256
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, Response

from server.errors import NotFound
from server.routes.compressed import CompressedFile, Text

router = APIRouter(include_in_schema=False)
_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
_FOLDER: Final = str(files("fastapi_offline") / "static")
_KEEP: Final = {"Cache-Control": "no-cache"}
"""May be cached, but must be revalidated."""
_INLINE_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_POLICY: Final = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/openapi.json")
def openapi(request: Request, accept_encoding: Text = None, if_none_match: Text = None) -> Response:
    """The OpenAPI document; it is large, and compressed for who takes it so."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        document = json.dumps(request.app.openapi(), ensure_ascii=False, separators=(",", ":"))
        state.openapi = CompressedFile(document.encode(), "application/json")
    response: Response = state.openapi.response(accept_encoding, if_none_match)
    return response


@router.get("/docs")
def page(request: Request) -> HTMLResponse:
    """Swagger UI. Its addresses are relative, so that it also works below a proxy's prefix."""
    response = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{request.app.title} API",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},  # the default asks a public service about this server
    )
    response.headers.update({"Content-Security-Policy": _policy(bytes(response.body).decode())})
    return response


@router.get("/docs/{name}")
def asset(name: str) -> FileResponse:
    """A script, style sheet or picture of the page."""
    if name not in _ASSETS:
        raise NotFound("There is nothing at this address.")
    return FileResponse(f"{_FOLDER}/{name}", media_type=_ASSETS[name], headers=_KEEP)


def _policy(html: str) -> str:
    """Content-Security-Policy (level 3) that permits the page's own inline scripts by their hashes."""
    digests = [base64.b64encode(sha256(script.encode()).digest()).decode() for script in _INLINE_SCRIPT.findall(html)]
    return _POLICY.format(scripts=" ".join(f"'sha256-{digest}'" for digest in digests))
