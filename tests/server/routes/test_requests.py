"""The life of a queued request, as its caller sees it."""

from __future__ import annotations

import uuid
from urllib.parse import quote

import pytest

from tests.server.conftest import MakeSettings
from tests.server.support import SLUGS, Client, FakeWorker, body_for, serving

PATHS = ("/v2/requests/{}/status", "/v2/requests/{}", "/v1/requests/{}")


@pytest.mark.parametrize("slug", SLUGS)
def test_submit(client: Client, slug: str) -> None:
    answer = client.post(f"/v2/{slug}", json=body_for(slug))
    body = answer.json()
    request_id = body["request_id"]
    base = str(client.base_url)
    assert answer.status_code == 200
    assert uuid.UUID(request_id)
    assert body == {
        "request_id": request_id,
        "status": "QUEUED",
        "poll_url": f"{base}/v1/requests/{request_id}",
        "status_url": f"{base}/v2/requests/{request_id}/status",
        "response_url": f"{base}/v2/requests/{request_id}",
    }


def test_every_url_shows_a_request_under_way(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit()
    for state in ("QUEUED", "PROCESSING"):
        for path in PATHS:
            answer = client.get(path.format(request_id))
            assert answer.status_code == 200
            body = answer.json()
            assert (body["status"], body["request_id"], body["metrics"]) == (state, request_id, {})
            assert body["status_url"].endswith(f"/v2/requests/{request_id}/status")
            assert body["response_url"].endswith(f"/v2/requests/{request_id}")
        if state == "QUEUED":
            worker.start(request_id)


def test_completed(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit(number_of_images=2, seed=11, output_format="jpg")
    outputs = worker.complete(request_id)
    status = client.get(f"/v2/requests/{request_id}/status").json()
    result = client.get(f"/v2/requests/{request_id}").json()
    assert client.get(f"/v1/requests/{request_id}").json() == result
    metrics = result["metrics"]
    assert status["status"] == "COMPLETED"
    assert status["metrics"] == metrics
    assert "output" not in status
    assert (metrics["inference_time"], metrics["cost"]) == (1.25, 0.0)
    assert metrics["remaining_credits"] > 0
    assert metrics["total_time"] >= metrics["queue_time"] > 0
    assert {name: result[name] for name in ("status", "request_id", "error", "seed", "prompt", "timings")} == {
        "status": "COMPLETED",
        "request_id": request_id,
        "error": None,
        "seed": 11,
        "prompt": "a portrait",
        "timings": {},
    }
    assert result["output"] == result["images"][0]["url"]
    for image, output in zip(result["images"], outputs, strict=True):
        assert image["url"] == f"{client.base_url}/files/{output.name}"
        assert (image["content_type"], image["file_name"], image["file_size"]) == (
            "image/jpeg",
            output.name,
            output.size,
        )
        assert client.get(image["url"]).content == worker.store.read(output.name)


@pytest.mark.parametrize("path", PATHS)
def test_failed(client: Client, worker: FakeWorker, path: str) -> None:
    request_id = client.submit()
    worker.fail(request_id, "No face was found in the picture.")
    answer = client.get(path.format(request_id))
    body = answer.json()
    assert answer.status_code == 422
    assert set(body) == {"status", "error", "request_id", "metrics"}
    assert (body["status"], body["error"], body["request_id"]) == (
        "FAILED",
        "No face was found in the picture.",
        request_id,
    )
    assert set(body["metrics"]) == {"inference_time", "queue_time", "total_time", "stages"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "request_id", ["nope", "7b0f0c52-93a4-4f55-9d3c-8f2f0b6c1d3e", "a\x00b", "ü", "%", "facelight:open", "x" * 4000]
)
def test_unknown(client: Client, path: str, request_id: str) -> None:
    answer = client.get(path.format(quote(request_id)))
    assert answer.status_code == 404
    assert answer.json() == {"error": f"Request {request_id} not found"}


def test_expired(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit()
    worker.complete(request_id)
    worker.redis.delete(f"facelight:request:{request_id}")
    assert {client.get(path.format(request_id)).status_code for path in PATHS} == {404}


def test_any_gateway_answers_for_any_request(make_settings: MakeSettings) -> None:
    settings = make_settings()
    worker = FakeWorker(settings)
    with serving(settings) as one, serving(settings) as other:
        request_id = one.submit()
        worker.complete(request_id)
        result = other.get(f"/v2/requests/{request_id}").json()
        assert result["status"] == "COMPLETED"
        assert other.get(result["output"]).status_code == 200
