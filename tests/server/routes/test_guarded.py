"""Every route of the application asks for a key unless it is on the list here, and no key sees what is another's."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from server.app import create_app
from server.settings import GatewaySettings
from tests.server.conftest import MakeSettings
from tests.server.support import DATA_URI, SLUGS, Client, FakeWorker, body_for, image_field, serving
from workers.state.connection import connect
from workers.state.keys import Keys

PUBLIC = {
    "/",
    "/web/{path:path}",
    "/openapi.json",
    "/docs",
    "/docs/{name}",
    "/health/live",
    "/health/ready",
    "/files/{name}",
}
"""Nothing secret stands there; names of results under `/files` are secrets themselves."""
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
PROMPT = "a prompt that nobody else may read"


@pytest.fixture
def guarded_settings(make_settings: MakeSettings) -> GatewaySettings:
    return make_settings(require_key=True)


@pytest.fixture
def guarded(guarded_settings: GatewaySettings) -> Iterator[Client]:
    with serving(guarded_settings) as client:
        yield client


@pytest.fixture
def mine(guarded_settings: GatewaySettings) -> dict[str, str]:
    return new_key(guarded_settings)


@pytest.fixture
def others(guarded_settings: GatewaySettings) -> dict[str, str]:
    return new_key(guarded_settings)


def new_key(settings: GatewaySettings) -> dict[str, str]:
    return {"x-api-key": Keys(connect(settings.redis_url)).add(f"somebody {secrets.token_hex(4)}")[1]}


def routes_of(routes: list[Any], prefix: str = "") -> set[tuple[str, str]]:
    """(method, path) of every route, those of included routers and of mounted applications too."""
    found: set[tuple[str, str]] = set()
    for route in routes:
        if hasattr(route, "original_router"):
            found |= routes_of(route.original_router.routes, prefix + route.include_context.prefix)
        elif isinstance(route, Mount):
            # What is no list of routes answers at any path below.
            inside = routes_of(list(route.routes), prefix + route.path)
            found |= inside or {(method, f"{prefix}{route.path}/x") for method in METHODS}
        else:
            # A kind of route that has no methods, such as a WebSocket, is unknown here: let it fail, loudly.
            found |= {(method, prefix + route.path) for method in route.methods}
    return found


def test_the_walk_finds_every_kind_of_route() -> None:
    inner = APIRouter(prefix="/inner")
    inner.add_api_route("/a", lambda: None, methods=["PUT"])
    outer = APIRouter()
    outer.include_router(inner, prefix="/outer")
    app = FastAPI(openapi_url=None)
    app.include_router(outer, prefix="/v3")
    app.mount("/sub", Starlette(routes=[Route("/b", lambda _: None, methods=["POST"])]))  # type: ignore[arg-type]
    app.mount("/any", lambda *_: None)  # type: ignore[arg-type]
    found = routes_of(list(app.routes))
    assert found >= {("PUT", "/v3/outer/inner/a"), ("POST", "/sub/b"), ("DELETE", "/any/x")}
    app.add_api_websocket_route("/socket", lambda: None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="methods"):
        routes_of(list(app.routes))


def test_everything_but_the_public_list_asks_for_a_key(guarded: Client, guarded_settings: GatewaySettings) -> None:
    app = create_app(guarded_settings)
    routes = routes_of(list(app.routes))
    paths = {path for _, path in routes}
    assert paths >= PUBLIC | set(app.openapi()["paths"])
    assert len(paths - PUBLIC) >= 2 * len(SLUGS) + 5
    for method, path in routes:
        answer = guarded.request(method, re.sub(r"\{[\w:]+\}", "x", path))
        assert (answer.status_code == 401) == (path not in PUBLIC), (method, path)


def test_other_methods_give_nothing_away(guarded: Client, guarded_settings: GatewaySettings) -> None:
    routes = routes_of(list(create_app(guarded_settings).routes))
    for path in {path for _, path in routes} - PUBLIC:
        for method in METHODS - {method for method, same in routes if same == path}:
            answer = guarded.request(method, re.sub(r"\{[\w:]+\}", "x", path))
            assert answer.status_code in (401, 405), (method, path)


def requests_of(settings: GatewaySettings) -> list[tuple[str, str]]:
    """(method, path) of every route that is about one request, those that may end it last."""
    routes = routes_of(list(create_app(settings).routes))
    return sorted((route for route in routes if "{request_id}" in route[1]), key=lambda route: route[0] == "DELETE")


@pytest.mark.parametrize("state", ["QUEUED", "PROCESSING", "COMPLETED", "FAILED"])
def test_a_request_does_not_exist_for_other_keys(
    guarded: Client, guarded_settings: GatewaySettings, mine: dict[str, str], others: dict[str, str], state: str
) -> None:
    request_id = guarded.post("/v2/ic-light", json=body_for("ic-light", prompt=PROMPT), headers=mine).json()[
        "request_id"
    ]
    worker = FakeWorker(guarded_settings)
    steps = {"PROCESSING": worker.start, "COMPLETED": worker.complete, "FAILED": worker.fail}
    if state in steps:
        steps[state](request_id)
    before = worker.record(request_id)
    assert before.status == state
    routes = requests_of(guarded_settings)
    assert len(routes) >= 3
    for method, path in routes:
        answer = guarded.request(method, path.format(request_id=request_id), headers=others)
        unknown = guarded.request(method, path.format(request_id="x"), headers=others)
        assert (answer.status_code, unknown.status_code) == (404, 404), (method, path)
        assert answer.text.replace(request_id, "x") == unknown.text
    assert worker.record(request_id) == before, "nor could it be cancelled"
    for method, path in routes:
        # By `stream`, as that of the events of a request that goes on has no end.
        with guarded.stream(method, path.format(request_id=request_id), headers=mine) as answer:
            assert answer.status_code in (200, 202, 422), (method, path)


def test_no_listing_shows_what_is_anothers(guarded: Client, mine: dict[str, str], others: dict[str, str]) -> None:
    """There is no listing at all; should one come, it is asked here."""
    submitted = guarded.post("/v2/ic-light", json=body_for("ic-light", prompt=PROMPT), headers=mine).json()
    uploaded = upload(guarded, mine)
    secrets = [PROMPT, submitted["request_id"], uploaded.rpartition("/")[2]]
    for path in (
        "/files",
        "/files/",
        "/v1/requests",
        "/v2/requests",
        "/v2/requests/",
        "/upload-asset",
        "/v1/ic-light",
    ):
        answer = guarded.get(path, headers=others)
        assert answer.status_code in (404, 405), path
        assert not [secret for secret in secrets if secret in answer.text]
    for path in ("/", "/v1/get-user-credits", "/health/ready", "/health/live", "/openapi.json"):
        answer = guarded.get(path, headers=others)
        assert not [secret for secret in secrets if secret in answer.text]


def upload(client: Client, headers: dict[str, str]) -> str:
    """URL of a picture that the owner of a key has uploaded."""
    url: str = client.post("/upload-asset", json={"data_urls": [DATA_URI]}, headers=headers).json()["urls"][0]
    return url


def test_an_upload_is_downloaded_with_its_key_only(
    guarded: Client, mine: dict[str, str], others: dict[str, str]
) -> None:
    url = upload(guarded, mine)
    guessed = re.sub("/files/.{8}", "/files/AAAAAAAA", url)
    for method in ("GET", "HEAD"):
        assert guarded.request(method, url, headers=mine).status_code == 200
        for headers, status in ((others, 404), ({}, 401), ({"x-api-key": "wrong"}, 401)):
            hidden = guarded.request(method, url, headers=headers)
            absent = guarded.request(method, guessed, headers=headers)
            assert (hidden.status_code, absent.status_code) == (status, status)
            assert hidden.text == absent.text
    bare = re.sub("-[0-9a-f]{16}[.]", ".", url)
    assert bare != url
    assert guarded.get(bare, headers=others).status_code == 404, "the owner's tag cannot be left out"


@pytest.mark.parametrize("slug", SLUGS)
def test_an_upload_is_used_by_its_key_only(
    guarded: Client, mine: dict[str, str], others: dict[str, str], slug: str
) -> None:
    url = upload(guarded, mine)
    absent = re.sub("/files/.{8}", "/files/AAAAAAAA", url)
    relative = httpx.URL(url).path
    body = body_for(slug)
    assert guarded.post(f"/v2/{slug}", json={**body, image_field(slug): url}, headers=mine).status_code == 200
    answers = [
        guarded.post(f"/{version}/{slug}", json={**body, image_field(slug): named}, headers=others)
        for version in ("v1", "v2")
        for named in (url, relative, absent)
    ]
    assert {answer.status_code for answer in answers} == {400}
    assert len({answer.text for answer in answers}) == 1
    assert "no such file" in answers[0].json()["error"]


def test_a_result_may_be_handed_on(
    guarded: Client, guarded_settings: GatewaySettings, mine: dict[str, str], others: dict[str, str]
) -> None:
    request_id = guarded.post("/v2/ic-light", json=body_for("ic-light"), headers=mine).json()["request_id"]
    FakeWorker(guarded_settings).complete(request_id)
    url = guarded.get(f"/v2/requests/{request_id}", headers=mine).json()["output"]
    assert guarded.get(url).status_code == 200
    answer = guarded.post("/v2/ic-light", json=body_for("ic-light", subject_image=url), headers=others)
    assert answer.status_code == 200


def test_uploads_need_no_key_where_none_is_asked_for(make_settings: MakeSettings) -> None:
    with serving(make_settings()) as client:
        assert client.get(upload(client, {})).status_code == 200
        assert client.submit(subject_image=upload(client, {}))
