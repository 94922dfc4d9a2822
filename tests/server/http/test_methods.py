"""Methods and addresses as RFC 9110 has them: 405 names all methods, HEAD is GET without a body, nothing redirects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from server.app import create_app
from server.settings import GatewaySettings
from tests.server.conftest import MakeSettings
from tests.server.routes.test_guarded import routes_of
from tests.server.support import DATA_URI, PNG, Client, FakeWorker, body_for, serving

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
CHANGING = ("date", "ratelimit")
"""Header fields that differ from one answer to the next."""


def addresses(settings: GatewaySettings) -> dict[str, set[str]]:
    """Methods by path of every route of the application; HEAD where there is GET."""
    found: dict[str, set[str]] = {}
    for method, path in routes_of(list(create_app(settings).routes)):
        found.setdefault(path, set()).update({method, "HEAD"} if method == "GET" else {method})
    return found


def test_a_refused_method_is_told_all_that_there_are(client: Client, settings: GatewaySettings) -> None:
    refused = 0
    for path, methods in addresses(settings).items():
        for method in set(METHODS) - methods:
            answer = client.request(method, re.sub(r"\{\w+\}", "x", path))
            assert answer.status_code == 405, (method, path)
            named = answer.headers["allow"].split(", ")
            assert (set(named), len(named)) == (methods, len(methods)), (method, path)
            if method != "HEAD":
                assert answer.json() == {"error": f"{method} is not allowed here."}
            refused += 1
    assert refused > 60


def test_the_methods_of_an_address_that_several_routes_share(client: Client) -> None:
    assert client.put("/v2/requests/x").headers["allow"] == "GET, HEAD, DELETE"
    assert client.post("/files/x.png").headers["allow"] == "GET, HEAD"
    assert client.head("/v2/ic-light").headers["allow"] == "POST"
    assert client.head("/v2/ic-light").status_code == 405


def headers_of(answer: Any) -> dict[str, str]:
    fields = {name: value for name, value in answer.headers.items() if name not in CHANGING}
    return {name: re.sub("max-age=[0-9]+", "max-age=…", value) for name, value in fields.items()}


def pages(client: Client, worker: FakeWorker) -> Iterator[str]:
    """What there is to be read, in every state."""
    waiting, done, failed = (client.submit() for _ in range(3))
    worker.complete(done)
    worker.fail(failed)
    for request_id in (waiting, done, failed, "nobody"):
        yield from (
            f"/v2/requests/{request_id}/status",
            f"/v2/requests/{request_id}",
            f"/v1/requests/{request_id}",
        )
    yield f"/files/{worker.record(done).outputs[0].name}"
    yield client.post("/upload-asset", json={"data_urls": [DATA_URI]}).json()["urls"][0]
    yield from ("/files/nothing.png", "/v1/get-user-credits", "/health/live", "/health/ready", "/openapi.json")
    yield from ("/docs", "/docs/favicon.png", "/docs/nothing", "/nothing", "/v1/sdxl", "/", "/web/app.js")


def test_head_is_get_without_a_body(client: Client, worker: FakeWorker) -> None:
    seen = set()
    for path in pages(client, worker):
        whole, head = client.get(path), client.head(path)
        assert head.status_code == whole.status_code, path
        assert head.content == b"" != whole.content, path
        assert headers_of(head) == headers_of(whole), path
        assert int(head.headers["content-length"]) == whole.num_bytes_downloaded, path
        seen.add(head.status_code)
    assert seen == {200, 404, 422, 503}


def test_head_and_get_may_take_turns_on_one_connection(client: Client) -> None:
    """A body that were sent after all would be taken for the next answer."""
    for _ in range(5):
        assert client.head("/openapi.json").content == b""
        assert client.get("/health/live").json() == {"status": "live"}


def test_head_of_a_file_heeds_conditions_and_no_ranges(client: Client, worker: FakeWorker) -> None:
    name = worker.store.put(PNG, "png", 3600)
    etag = client.head(f"/files/{name}").headers["etag"]
    assert client.head(f"/files/{name}", headers={"If-None-Match": etag}).status_code == 304
    answer = client.head(f"/files/{name}", headers={"Range": "bytes=0-3"})
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(PNG)))


def test_head_asks_for_a_key_where_get_does(make_settings: MakeSettings) -> None:
    with serving(make_settings(api_keys="k")) as client:
        for path in ("/v1/get-user-credits", "/v2/requests/x"):
            assert client.head(path).status_code == 401
        assert client.head("/v1/get-user-credits", headers={"x-api-key": "k"}).status_code == 200


@pytest.mark.parametrize("method", METHODS)
def test_no_address_redirects(client: Client, settings: GatewaySettings, method: str) -> None:
    """Clients of the hosted API take a redirect for success."""
    body = {"json": body_for("ic-light")} if method == "POST" else {}
    for path in addresses(settings):
        known = re.sub(r"\{[\w:]+\}", "x", path)
        for address in {f"{known}/", f"/{known}", f"{known}//", known.replace("/", "//"), known.upper()} - {"/"}:
            answer = client.request(method, str(client.base_url) + address, **body)
            assert answer.status_code in (404, 405), (method, address)
            assert "location" not in answer.headers
        if method != "POST":
            answer = client.request(method, known)
            assert not 300 <= answer.status_code < 400, (method, known)
            assert "location" not in answer.headers
    for address in ("//", "/v1", "/v1/", "/v2/", "/files", "/files/", "/docs/", "/health", "/v1/requests/"):
        assert client.request(method, str(client.base_url) + address, **body).status_code == 404, (method, address)
