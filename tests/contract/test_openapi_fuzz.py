"""Whatever is sent to a live server: no 5xx, no undocumented status, no body that breaks its schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live_server import LiveServer

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@pytest.mark.timeout(600)
def test_any_request(live: LiveServer, tmp_path: Path) -> None:
    """Requests that fit the documentation and requests that do not, generated from it, stateful chains included."""
    options = ["--checks", ",".join(CHECKS), "--max-examples", "25", "--seed", "1", "--request-timeout", "60"]
    command = [SCHEMATHESIS, "run", f"{live.url}/openapi.json", *options]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-8000:]
