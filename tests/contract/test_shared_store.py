"""Two gateways and a worker over one Redis and one S3 bucket: several hosts without a common folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.settings import GatewaySettings
from tests.live_server import live_server
from tests.s3_server import keys
from tests.server.support import serving
from workers.store.open import open_store

SMALL = {"prompt": "cat", "width": 256, "height": 256, "steps": 1, "number_of_images": 2, "output_format": "png"}


def wait_for(reached: Callable[[], bool]) -> None:
    """Return as soon as it is so."""
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def finished(client: httpx.Client, request_id: str) -> dict[str, Any]:
    """The result of a request, once it is there."""
    answers: list[dict[str, Any]] = []

    def has_ended() -> bool:
        answers.append(client.get(f"/v2/requests/{request_id}").json())
        return answers[-1]["status"] in ("COMPLETED", "FAILED")

    wait_for(has_ended)
    return answers[-1]


@pytest.mark.slow
def test_images_on_s3_are_served_by_every_gateway(
    tmp_path: Path, redis_url: str, demo_weights: Path, photos: Path, bucket: str
) -> None:
    location = f"s3://{bucket}/pictures"
    store = open_store(location)
    long_expired = store.put(b"swept by the janitor", "png", -400)
    other_settings = GatewaySettings(
        redis_url=redis_url, data_dir=tmp_path / "other", store=location, janitor_interval_s=86_400
    )
    settings = {"redis_url": redis_url, "store": location, "models": "ic-light", "janitor_interval_s": "0.5"}
    with (
        live_server(tmp_path / "one", demo_weights, **settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as one,
        serving(other_settings) as other,
    ):
        sent = other.post("/v2/ic-light", data=SMALL, files={"subject_image": (photos / "cat.png").read_bytes()})
        assert sent.status_code == 200, sent.text
        result = finished(other, sent.json()["request_id"])  # it waits until the worker has loaded its model
        assert result["status"] == "COMPLETED", result
        for image in result["images"]:
            path = httpx.URL(image["url"]).path
            here, there = one.get(path), other.get(path)
            assert here.status_code == there.status_code == 200
            assert here.content == there.content
            assert len(here.content) == image["file_size"]
            assert here.headers["etag"] == there.headers["etag"]
            part = other.get(path, headers={"Range": "bytes=100-299", "If-Range": here.headers["etag"]})
            assert (part.status_code, part.content) == (206, here.content[100:300])
        again = one.post("/v1/ic-light", json={**SMALL, "number_of_images": 1, "subject_image": path})
        assert again.status_code == 200, "a gateway reads pictures that another one has told of"
        expired = store.put(here.content, "png", -1)
        assert one.get(f"/files/{expired}").status_code == other.get(f"/files/{expired}").status_code == 404
        wait_for(lambda: f"pictures/{long_expired}" not in keys(bucket))
    left = keys(bucket)
    assert {f"pictures/{image['file_name']}" for image in result["images"]} < left
    assert not any(key.endswith(".bin") for key in left), "inputs go when their request has ended"
    assert not (tmp_path / "one" / "store").exists()
    assert not (tmp_path / "other").exists()
