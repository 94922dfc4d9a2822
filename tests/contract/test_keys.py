"""With keys set, the client library needs one, and learns why when it has none."""

from __future__ import annotations

import httpx
import pytest
from segmind import SegmindError

from tests.contract.client_lines import redirected_client
from tests.live_server import API_KEY, LiveServer

QUICK = {"prompt": "x", "width": 256, "height": 256, "steps": 1, "highres_scale": 1}


@pytest.mark.parametrize("key", [None, "SG_wrong", "SG_0123456789abcde"])
def test_without_the_right_key_every_call_is_401(
    guarded: LiveServer, photo_url: str, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", key or "")
    client = redirected_client(guarded.url, monkeypatch)
    for call in (client.run_sync, client.submit_async):
        with pytest.raises(SegmindError) as refusal:
            call("ic-light", subject_image=f"{photo_url}/cat.png", **QUICK)
        assert refusal.value.status == 401
        assert refusal.value.detail


def test_the_key_from_the_environment_is_accepted(
    guarded: LiveServer, photo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", API_KEY)
    client = redirected_client(guarded.url, monkeypatch)
    result = client.run("ic-light", subject_image=f"{photo_url}/cat.png", **QUICK)
    assert result["status"] == "COMPLETED"
    assert httpx.get(result["output"]).status_code == 200, "pictures are fetched without a key"
    other = httpx.get(f"{guarded.url}/v2/requests/{result['request_id']}", headers={"x-api-key": "another"})
    assert other.status_code == 404, "another key does not see the request"


def test_a_bearer_token_is_accepted(guarded: LiveServer) -> None:
    url = f"{guarded.url}/v1/get-user-credits"
    assert httpx.get(url, headers={"Authorization": f"Bearer {API_KEY}"}).json()["credits"] >= 0
    assert httpx.get(url, headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_health_and_docs_need_no_key(guarded: LiveServer) -> None:
    for path in ("/health/live", "/health/ready", "/docs", "/openapi.json"):
        assert httpx.get(guarded.url + path).status_code == 200
