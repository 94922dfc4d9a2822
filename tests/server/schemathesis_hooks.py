"""What schemathesis cannot know: what a picture is, and that waiting takes time. Named by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import base64
from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.server.support import picture

_PICTURES = st.builds(picture, st.integers(32, 80), st.integers(32, 80), st.sampled_from(["PNG", "JPEG", "WEBP"]))
_BASE64 = _PICTURES.map(lambda data: base64.b64encode(data).decode())
_DATA_URLS = _BASE64.map("data:image/png;base64,".__add__)

schemathesis.openapi.format("binary", _PICTURES)
schemathesis.openapi.format("image-reference", _DATA_URLS | _BASE64)
schemathesis.openapi.format("image-data-url", _DATA_URLS)
schemathesis.openapi.format("webhook-url", st.just("http://127.0.0.1:9/"))  # where nobody listens


@schemathesis.hook
def filter_body(_context: Any, body: Any) -> bool:
    """Null is as good as absent, which the schema does not say: it is that of forms, too, which have no null."""
    return not (isinstance(body, dict) and None in body.values())


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """A status that may be waited for is waited for a tenth of a second at most."""
    wait = (case.query or {}).get("wait")
    if isinstance(wait, int | float) and 0.1 < wait <= 60:
        case.query["wait"] = 0.1
