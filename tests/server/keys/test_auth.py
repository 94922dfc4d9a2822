"""Who may call what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.settings import GatewaySettings
from tests.server.conftest import MakeSettings
from tests.server.support import KEYS, Client, FakeWorker, body_for, serving


@pytest.fixture
def guarded_settings(make_settings: MakeSettings) -> GatewaySettings:
    return make_settings(api_keys=",".join(KEYS))


@pytest.fixture
def guarded(guarded_settings: GatewaySettings) -> Iterator[Client]:
    with serving(guarded_settings) as client:
        yield client


def test_no_key_and_a_wrong_key_get_the_same_answer(guarded: Client) -> None:
    offered: list[dict[str, str]] = [
        {},
        {"x-api-key": "SG_wrong"},
        {"x-api-key": ""},
        {"x-api-key": "Sch\xfcssel"},
        {"Authorization": "Bearer SG_wrong"},
        {"Authorization": f"Basic {KEYS[0]}"},
        {"Authorization": KEYS[0]},
        {"x-api-key": KEYS[0][:-1]},
        {"x-api-key": ",".join(KEYS)},
    ]
    for headers in offered:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        answer = guarded.get("/v1/get-user-credits", headers=raw)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json() == {
            "error": "Unauthorized. Send a valid API key in the x-api-key or Authorization header."
        }


def test_both_headers_are_understood(guarded: Client) -> None:
    for headers in (
        {"x-api-key": KEYS[1]},
        {"Authorization": f"Bearer {KEYS[1]}"},
        {"authorization": f"bearer {KEYS[0]}"},
    ):
        assert guarded.get("/v1/get-user-credits", headers=headers).status_code == 200


def test_a_key_is_asked_for_before_the_body_is_read(guarded: Client) -> None:
    assert guarded.post("/v2/ic-light", content=b"{").status_code == 401


def test_requests_belong_to_the_key_that_made_them(guarded: Client, guarded_settings: GatewaySettings) -> None:
    mine, other = ({"x-api-key": key} for key in KEYS)
    worker = FakeWorker(guarded_settings)
    request_id = guarded.post("/v2/ic-light", json=body_for("ic-light"), headers=mine).json()["request_id"]
    assert worker.record(request_id).owner not in ("", *KEYS)
    worker.complete(request_id)
    for path in (f"/v2/requests/{request_id}/status", f"/v2/requests/{request_id}", f"/v1/requests/{request_id}"):
        assert guarded.get(path, headers=mine).status_code == 200
        answer = guarded.get(path, headers=other)
        assert (answer.status_code, answer.json()) == (404, {"error": f"Request {request_id} not found"})
    result = guarded.get(f"/v2/requests/{request_id}", headers=mine).json()
    assert guarded.get(result["output"]).status_code == 200, "pictures need no key"


def test_a_key_is_not_needed_when_there_are_none(client: Client) -> None:
    assert client.get("/v1/get-user-credits").status_code == 200
    assert client.get("/v1/get-user-credits", headers={"x-api-key": "any"}).status_code == 200
