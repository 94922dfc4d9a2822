"""What every answer says besides its body, and which pages of other origins may read it."""

from __future__ import annotations

import pytest

from server.errors import SECURITY_HEADERS
from tests.server.conftest import MakeSettings
from tests.server.support import Client, FakeWorker, body_for, serving

PAGE = "https://app.example.com"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "x-api-key,content-type,idempotency-key",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", 200),
        ("GET", "/v1/get-user-credits", 200),
        ("POST", "/v2/ic-light", 400),
        ("GET", "/nothing", 404),
        ("PUT", "/v2/ic-light", 405),
        ("GET", "/v2/requests/x", 404),
    ],
)
def test_every_answer_is_guarded(client: Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "server" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


def test_defects_too(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit()
    worker.redis.hset(f"facelight:request:{request_id}", "params", "not json")
    answer = client.get(f"/v2/requests/{request_id}")
    assert answer.status_code == 500
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_what_may_be_kept_says_so(client: Client, worker: FakeWorker) -> None:
    (output,) = worker.complete(client.submit())
    picture = client.get(f"/files/{output.name}")
    assert picture.headers["cache-control"].startswith("private, immutable")
    assert picture.headers["x-content-type-options"] == "nosniff"
    assert "script-src" in client.get("/docs").headers["content-security-policy"]
    for path in ("/docs/swagger-ui.css", "/openapi.json", "/", "/web/app.js"):
        assert client.get(path).headers["cache-control"] == "no-cache"


def test_no_other_origin_may_call(client: Client) -> None:
    assert client.options("/v2/ic-light", headers=PREFLIGHT).status_code == 405
    assert "access-control-allow-origin" not in client.get("/health/live", headers={"Origin": PAGE}).headers


def test_named_origins_may_call(make_settings: MakeSettings) -> None:
    with serving(make_settings(cors_origins=PAGE, api_keys="a-key")) as client:
        allowed = client.options("/v2/ic-light", headers=PREFLIGHT)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
        assert "DELETE" in allowed.headers["access-control-allow-methods"]
        answer = client.post("/v2/ic-light", json=body_for("ic-light"), headers={"Origin": PAGE, "x-api-key": "a-key"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
        assert {"X-Request-Id", "Retry-After", "RateLimit"} <= set(
            answer.headers["access-control-expose-headers"].split(", ")
        )
        assert "access-control-allow-credentials" not in answer.headers
        other = {**PREFLIGHT, "Origin": "https://app.example.com.evil.test"}
        assert client.options("/v2/ic-light", headers=other).status_code == 400
        refused = client.get("/v1/get-user-credits", headers={"Origin": PAGE})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)


@pytest.mark.parametrize("origin", ["app.example.com", "https://app.example.com/", "https://a.test/path", "null"])
def test_malformed_origins(make_settings: MakeSettings, origin: str) -> None:
    with pytest.raises(ValueError, match="must be origins"):
        make_settings(cors_origins=origin)
