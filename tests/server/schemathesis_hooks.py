"""What schemathesis cannot know: what a picture is. Named by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import base64

import schemathesis
from hypothesis import strategies as st

from tests.server.support import picture

_PICTURES = st.builds(picture, st.integers(32, 80), st.integers(32, 80), st.sampled_from(["PNG", "JPEG", "WEBP"]))
_BASE64 = _PICTURES.map(lambda data: base64.b64encode(data).decode())
_DATA_URLS = _BASE64.map("data:image/png;base64,".__add__)

schemathesis.openapi.format("binary", _PICTURES)
schemathesis.openapi.format("image-reference", _DATA_URLS | _BASE64)
schemathesis.openapi.format("image-data-url", _DATA_URLS)
