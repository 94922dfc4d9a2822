"""The log of a gateway process: access lines, and the request id on every line that concerns a request."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.auth import owner_of
from tests.conftest import REPOSITORY
from tests.live_server import free_port
from tests.server.support import KEYS, body_for, wait_for_gateway
from workers.state.connection import connect
from workers.state.keys import Keys

_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d) (?P<level>[A-Z]+) +gateway +"
    r"\[(?P<request_id>\S+)\] (?P<message>.*)"
)
_ACCESS = re.compile(r"(?P<method>[A-Z]+) (?P<path>/\S*) (?P<status>\d{3}) (?P<duration_ms>\d+\.\d) ms key=(?P<key>.+)")
_FILE = "Vh0Qk3cJx1yTq5m2b8nZr7dL4wGfPsAe.png"
_NAME = "the portal's key"


@pytest.fixture
def issued(redis_url: str) -> str:
    """The secret of an issued key."""
    return Keys(connect(redis_url)).add(_NAME)[1]


def _use(client: httpx.Client, issued: str) -> str:
    """Send one HTTP request of each kind; returns the id of the request that was enqueued."""
    headers = {"x-api-key": issued}
    client.head("/health/live")
    client.post("/v2/ic-light", json=body_for("ic-light"))
    request_id: str = client.post("/v2/ic-light", json=body_for("ic-light"), headers=headers).json()["request_id"]
    client.get(f"/v2/requests/{request_id}/status?api_key=not-for-the-log", headers=headers)
    client.get(f"/v2/requests/{request_id}", headers={"x-api-key": KEYS[0]})
    client.get("/v1/requests/no%0A[forged]%20line", headers={"x-api-key": KEYS[0]})
    client.get(f"/v2/{KEYS[1]}", headers={"x-api-key": KEYS[0]})
    client.get(f"/files/{_FILE}")
    return request_id


def _expected(request_id: str) -> list[tuple[str, str, str, str | None]]:
    """Method, path, status and key of the access lines of `_use`."""
    return [
        ("HEAD", "/health/live", "200", None),
        ("POST", "/v2/ic-light", "401", None),
        ("POST", "/v2/ic-light", "200", _NAME),
        ("GET", f"/v2/requests/{request_id}/status", "200", _NAME),
        ("GET", f"/v2/requests/{request_id}", "404", owner_of(KEYS[0])),
        ("GET", "/v1/requests/*", "404", owner_of(KEYS[0])),
        ("GET", "/v2/*", "404", None),
        ("GET", "/files/*", "404", None),
    ]


def _log_of_gateway(redis_url: str, folder: Path, issued: str, **settings: str) -> tuple[str, list[str]]:
    """Run a gateway process and `_use` it; returns the id of its request and the lines of its log."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    settings = {"redis_url": redis_url, "data_dir": str(folder), "port": str(port), "api_keys": KEYS[0], **settings}
    environment = os.environ | {f"FACELIGHT_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "server"]
    with (folder / "log").open("w+") as log:
        gateway = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stderr=log)
        try:
            wait_for_gateway(url)
            with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
                request_id = _use(client, issued)
        finally:
            gateway.send_signal(2)
            gateway.wait(20)
        log.seek(0)
        return request_id, [line for line in log if "GET /health/live" not in line]  # of `wait_for_gateway`


def test_text_has_one_access_line_per_http_request(redis_url: str, tmp_path: Path, issued: str) -> None:
    request_id, log = _log_of_gateway(redis_url, tmp_path, issued)
    lines = [_LINE.fullmatch(line.rstrip("\n")) for line in log]
    assert all(lines), log
    accesses = [(line, found) for line in lines if line and (found := _ACCESS.fullmatch(line["message"]))]
    assert [(found["method"], found["path"], found["status"], found["key"]) for _, found in accesses] == [
        (method, path, status, repr(key) if key else "-") for method, path, status, key in _expected(request_id)
    ]
    assert [line["request_id"] for line, _ in accesses if request_id in line["request_id"]] == [request_id] * 3
    assert accesses[-1][0]["request_id"] == "-", "an id in the path that is none is not bound"
    (enqueued,) = [line for line in lines if line and line["message"] == "enqueued, model ic-light"]
    assert enqueued["request_id"] == request_id
    assert not any(secret in "".join(log) for secret in ("not-for-the-log", "forged", issued, *KEYS, _FILE))


def test_json_has_the_same_as_fields(redis_url: str, tmp_path: Path, issued: str) -> None:
    request_id, log = _log_of_gateway(redis_url, tmp_path, issued, log_format="json")
    lines: list[dict[str, Any]] = [json.loads(line) for line in log]
    accesses = [line for line in lines if line["logger"] == "server.access"]
    found = [(line["method"], line["path"], str(line["status"]), line["key"]) for line in accesses]
    assert found == _expected(request_id)
    assert all(line["duration_ms"] > 0 and line["process"] == "gateway" for line in accesses)
    assert [line["request_id"] for line in lines].count(request_id) == 4


@pytest.mark.slow
def test_access_lines_can_be_turned_off(redis_url: str, tmp_path: Path, issued: str) -> None:
    request_id, log = _log_of_gateway(redis_url, tmp_path, issued, access_log="false")
    assert not any(_ACCESS.search(line) for line in log)
    assert any(f"[{request_id}] enqueued" in line for line in log)
