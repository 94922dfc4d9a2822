"""Submissions that are sent again with one Idempotency-Key are one request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.settings import GatewaySettings
from tests.server.conftest import MakeSettings
from tests.server.support import KEYS, PNG, Client, FakeWorker, body_for, picture, serving
from tests.workers.state.support import unfinished

KEY = {"Idempotency-Key": "1f2e3d4c-one"}


def submit(client: Client, headers: dict[str, str] = KEY, slug: str = "ic-light", **fields: Any) -> httpx.Response:
    return client.post(f"/v2/{slug}", json=body_for(slug, **fields), headers=headers)


def test_fifty_at_once_are_one(client: Client, worker: FakeWorker, settings: GatewaySettings) -> None:
    before = set(Path(settings.store_location).rglob("*"))
    limits = httpx.Limits(max_connections=50)
    with ThreadPoolExecutor(50) as pool, httpx.Client(base_url=client.base_url, limits=limits, timeout=30) as many:
        body = body_for("ic-light")
        answers = list(pool.map(lambda _: many.post("/v2/ic-light", json=body, headers=KEY), range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["request_id"] for answer in answers}) == 1
    assert worker.records.depth("ic-light") == 1
    left = [path for path in set(Path(settings.store_location).rglob("*")) - before if path.is_file()]
    assert len(left) == 1, "the pictures of 49 are not kept"


def test_the_way_a_picture_is_sent_does_not_matter(client: Client) -> None:
    first = submit(client).json()["request_id"]
    files = {"subject_image": ("a.png", PNG)}
    again = client.post("/v2/ic-light", data={"prompt": "a portrait"}, files=files, headers=KEY)
    assert again.json()["request_id"] == first


@pytest.mark.parametrize("fields", [{"prompt": "another"}, {"seed": 8}, {"slug": "pulid-lightning"}])
def test_another_body_is_refused(client: Client, worker: FakeWorker, fields: dict[str, Any]) -> None:
    submit(client, seed=7)
    answer = submit(client, **{"seed": 7, **fields})
    assert answer.status_code == 409
    assert set(answer.json()) == {"error"}
    assert len(unfinished(worker.redis)) == 1


def test_another_picture_is_refused(client: Client) -> None:
    assert submit(client).status_code == 200
    other = client.post(
        "/v2/ic-light", data={"prompt": "a portrait"}, files={"subject_image": picture(40, 40)}, headers=KEY
    )
    assert other.status_code == 409


def test_a_later_call_gets_what_has_become_of_it(client: Client, worker: FakeWorker) -> None:
    request_id = submit(client).json()["request_id"]
    worker.complete(request_id)
    assert submit(client).json()["request_id"] == request_id
    answer = client.post("/v1/ic-light", json=body_for("ic-light"), headers=KEY)
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (200, request_id)


def test_keys_are_apart(make_settings: MakeSettings) -> None:
    with serving(make_settings(api_keys=KEYS)) as client:
        answers = [submit(client, {**KEY, "x-api-key": key}) for key in KEYS]
        assert len({answer.json()["request_id"] for answer in answers}) == 2


def test_other_keys_make_other_requests(client: Client) -> None:
    ids = {submit(client, headers).json()["request_id"] for headers in ({}, {}, KEY, {"Idempotency-Key": "other"})}
    assert len(ids) == 4


def test_a_full_queue_knows_what_it_has_accepted(make_settings: MakeSettings) -> None:
    with serving(make_settings(queue_limit=1)) as client:
        request_id = submit(client).json()["request_id"]
        assert submit(client).json()["request_id"] == request_id
        assert submit(client, {"Idempotency-Key": "late"}).status_code == 429


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_malformed_keys(client: Client, key: str) -> None:
    answer = submit(client, {"Idempotency-Key": key})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Idempotency-Key must")
