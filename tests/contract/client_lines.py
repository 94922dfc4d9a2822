"""The code blocks of the documentation that point the client library at this server, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import segmind
from segmind import SegmindClient
from segmind.files import Files

REPOSITORY = Path(__file__).parents[2]
PAGES = ("README.md", "docs/api.md")
"""Both have the same blocks."""
_SHOWN = "http://127.0.0.1:8000"
_SECTION = re.compile(r"^## From the client library$(.+?)^## ", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```python\n(.+?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    """The Python blocks of a page's section on the client library."""
    section = _SECTION.search((REPOSITORY / page).read_text(encoding="utf-8"))
    assert section, f"{page} has no section on the client library"
    return _BLOCK.findall(section[1])


def redirecting_block(page: str) -> str:
    """The block that redirects the whole library."""
    (found,) = [block for block in blocks(page) if "event_hooks" in block]
    return found


def run_block(code: str, url: str, **names: Any) -> dict[str, Any]:
    """Run a block for the server at `url`; returns the names that it defines."""
    assert _SHOWN in code
    names = {"__name__": "lines", **names}
    exec(compile(code.replace(_SHOWN, url), "lines of the documentation", "exec"), names)
    return names


def redirected_client(url: str, monkeypatch: pytest.MonkeyPatch) -> SegmindClient:
    """The library's default client after that block, until the test ends; its key is SEGMIND_API_KEY."""
    monkeypatch.setattr(Files, "STORAGE_BASE_URL", Files.STORAGE_BASE_URL)
    monkeypatch.setattr(segmind, "_default_client", None)
    run_block(redirecting_block("README.md"), url)
    client = segmind._default_client
    assert client is not None
    return client
