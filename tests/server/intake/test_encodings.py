"""Every encoding of a request, for every model."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest

from tests.server.support import DATA_URI, PNG, SLUGS, Client, FakeWorker, Host, body_for, image_field
from workers.engine.rq_loop import WakeupQueue


def _stored(worker: FakeWorker, answer: Any) -> tuple[dict[str, Any], bytes | None]:
    """What a worker would find: the parameters, and the picture they name."""
    assert answer.status_code == 200, answer.text
    record = worker.record(answer.json()["request_id"])
    params = dict(record.params)
    return params, worker.store.read(params[image_field(record.slug)])


@pytest.mark.parametrize("slug", SLUGS)
class TestEncodings:
    def test_json_with_a_data_uri(self, client: Client, worker: FakeWorker, slug: str) -> None:
        params, image = _stored(worker, client.post(f"/v2/{slug}", json=body_for(slug)))
        assert image == PNG
        assert params["prompt"] == "a portrait"

    def test_json_with_a_url(self, client: Client, worker: FakeWorker, host: Host, slug: str) -> None:
        body = body_for(slug, **{image_field(slug): f"{host.url}/photo.png"})
        _, image = _stored(worker, client.post(f"/v2/{slug}", json=body))
        assert image == PNG

    def test_json_with_bare_base64(self, client: Client, worker: FakeWorker, slug: str) -> None:
        body = body_for(slug, **{image_field(slug): base64.encodebytes(PNG).decode()})
        _, image = _stored(worker, client.post(f"/v2/{slug}", json=body))
        assert image == PNG

    def test_multipart_with_a_file(self, client: Client, worker: FakeWorker, slug: str) -> None:
        data = {"prompt": "Zoë, à la carte", "seed": "7", "number_of_images": "2"}
        answer = client.post(f"/v2/{slug}", data=data, files={image_field(slug): ("photo.png", PNG, "image/png")})
        params, image = _stored(worker, answer)
        assert image == PNG
        assert (params["prompt"], params["seed"], params["number_of_images"]) == ("Zoë, à la carte", 7, 2)

    def test_multipart_with_text(self, client: Client, worker: FakeWorker, slug: str) -> None:
        parts = {name: (None, value) for name, value in body_for(slug).items()}
        _, image = _stored(worker, client.post(f"/v2/{slug}", files=parts))
        assert image == PNG

    def test_urlencoded(self, client: Client, worker: FakeWorker, slug: str) -> None:
        params, image = _stored(worker, client.post(f"/v2/{slug}", data=body_for(slug, width="512", prompt="é & co")))
        assert image == PNG
        assert (params["width"], params["prompt"]) == (512, "é & co")

    def test_urlencoded_with_plus_signs_left_as_they_are(self, client: Client, worker: FakeWorker, slug: str) -> None:
        content = f"prompt=p&{image_field(slug)}={DATA_URI}"
        headers = {"content-type": "application/x-www-form-urlencoded"}
        _, image = _stored(worker, client.post(f"/v2/{slug}", content=content, headers=headers))
        assert image == PNG

    def test_what_older_clients_send(self, client: Client, worker: FakeWorker, slug: str) -> None:
        body = body_for(slug, width="512", height=640.0, seed=None, negative_prompt="None", base64=False, samples=1)
        params, _ = _stored(worker, client.post(f"/v2/{slug}", json=body))
        assert (params["width"], params["height"]) == (512, 640)
        assert params["negative_prompt"] != "None"
        assert 0 <= params["seed"] < 2**32
        assert not {"base64", "samples"} & set(params)


def test_light_source_none_is_absent(client: Client, worker: FakeWorker) -> None:
    assert worker.record(client.submit("ic-light", light_source="None")).params["light_source"] == "None"


def test_seed_is_kept_or_drawn(client: Client, worker: FakeWorker) -> None:
    assert worker.record(client.submit(seed=42)).params["seed"] == 42
    drawn = {worker.record(client.submit(seed=-1)).params["seed"] for _ in range(3)}
    assert len(drawn) == 3
    assert all(0 <= seed < 2**32 for seed in drawn)


def test_media_type_is_read_leniently(client: Client) -> None:
    for media_type in ("application/json; charset=utf-8", "Application/JSON", "application/problem+json"):
        headers = {"content-type": media_type}
        answer = client.post("/v2/ic-light", content=json.dumps(body_for("ic-light")), headers=headers)
        assert answer.status_code == 200, media_type


def test_a_request_calls_a_worker_and_tells_it_nothing(client: Client, worker: FakeWorker) -> None:
    client.submit()
    (job,) = WakeupQueue("ic-light", "foreground", worker.redis).jobs
    assert (list(job.args), job.kwargs) == ([], {})


def test_log_holds_ids_and_no_secrets(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        request_id = client.submit("ic-light", prompt="a secret plan")
    (enqueued,) = [record for record in caplog.records if record.getMessage() == "enqueued, model ic-light"]
    assert enqueued.__dict__["request_id"] == request_id
    assert "secret" not in caplog.text
    assert "base64" not in caplog.text
