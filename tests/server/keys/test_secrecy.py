"""A whole server at its most talkative: no key is ever written down, in its log or anywhere else."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live_server import FACELIGHT, live_server
from tests.server.support import KEYS, body_for, wait_for_gateway
from workers.state.keys import new_secret


def facelight_keys(data_dir: Path, *words: str) -> str:
    """What `facelight keys` says on standard output, for the server whose folder that is."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FACELIGHT_")}
    environment["FACELIGHT_DATA_DIR"] = str(data_dir)
    done = subprocess.run(
        [FACELIGHT, "keys", *words], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def offer(client: httpx.Client, secret: str) -> list[httpx.Response]:
    """Send a key in all the places where a caller might put one; the answers to those where it may be."""
    headers: list[dict[str, str]] = [
        {"x-api-key": secret},
        {"Authorization": f"Bearer {secret}"},
        {"Authorization": f"Basic {secret}"},
        {"Authorization": secret, "Cookie": f"key={secret}"},
        {"x-api-key": secret, "Content-Type": f"text/{secret}"},
    ]
    for path in (f"/{secret}", f"/v2/{secret}", f"/v2/requests/{secret}", f"/v1/get-user-credits?key={secret}"):
        client.get(path, headers={"x-api-key": secret})
    answers = [client.get("/v1/get-user-credits", headers=header) for header in headers]
    answers += [client.post("/v2/ic-light", content=b"{", headers=header) for header in headers]
    answers += [client.post("/upload-asset", json={"api_key": secret}, headers=header) for header in headers]
    return answers


def relight(client: httpx.Client, secret: str) -> dict[str, Any]:
    """The result of a whole request, with the key in its body as well."""
    headers = {"x-api-key": secret}
    body = body_for("ic-light", width=256, height=256, steps=1, highres_scale=1, api_key=secret)
    submitted = client.post("/v2/ic-light", json=body, headers=headers).json()
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        result: dict[str, Any] = client.get(submitted["response_url"], headers=headers).json()
        if result["status"] == "COMPLETED":
            return result
        time.sleep(0.2)
    raise AssertionError("the request did not end")


@pytest.mark.slow
def test_keys_are_never_written_down(tmp_path: Path, demo_weights: Path) -> None:
    data_dir = tmp_path / ("a path too long for a socket, " * 4)
    settings = {"api_keys": KEYS[0], "require_key": "true", "log_level": "DEBUG", "models": "ic-light"}
    with live_server(data_dir, demo_weights, **settings) as server:
        wait_for_gateway(server.url)
        issued = facelight_keys(data_dir, "add", "alice", "--rate", "1000", "--credits", "1000")
        old = facelight_keys(data_dir, "add", "bob")
        bob = facelight_keys(data_dir, "list").splitlines()[-1].split()[0]
        rotated = facelight_keys(data_dir, "rotate", bob)
        secrets = [KEYS[0], KEYS[1], issued, old, rotated, new_secret()]
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
            answers = {secret: offer(client, secret) for secret in secrets}
            result = relight(client, issued)
    for secret in secrets:
        assert secret not in repr(result)
        for answer in answers[secret]:
            assert secret not in answer.text + repr(answer.headers)
    log = server.log.read_text()
    assert "DEBUG" in log and "enqueued" in log
    written = [path for path in data_dir.rglob("*") if path.is_file()]
    assert {"serve.log", "appendonly.aof"} <= {path.name for path in written}
    for path in written:
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in data], path
