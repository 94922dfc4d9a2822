"""The OpenAPI document says all there is, and nothing of the framework's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from models.catalog import MODELS
from server.app import create_app
from server.routes.events import event_id
from tests.server.conftest import MakeSettings
from tests.server.support import DATA_URI, SLUGS, Client, FakeWorker, body_for
from workers.state.registry import ModelReport, ModelState

ENCODINGS = {"application/json", "multipart/form-data", "application/x-www-form-urlencoded"}
EXTENSIONS = {"webhook", "webhook_events_filter"}
"""Fields of every body that are no parameters of a model."""
EVENTS_PATH = "/v2/requests/{request_id}/events"
REQUEST_PATHS = ("/v2/requests/{request_id}/status", "/v2/requests/{request_id}", "/v1/requests/{request_id}")


@pytest.fixture
def document(client: Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/openapi.json").json()
    return answer


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema["$ref"].removeprefix("#/components/schemas/")
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


def test_nothing_of_the_framework_is_left(document: dict[str, Any]) -> None:
    assert "ValidationError" not in json.dumps(document)
    assert {"400", "401", "404", "405", "413", "429", "500", "503", "504"} <= set(
        document["paths"]["/v1/ic-light"]["post"]["responses"]
    )


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    names = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names == set(document["components"]["schemas"])


def test_every_operation_is_complete(document: dict[str, Any]) -> None:
    ids = []
    for name, operation in operations(document):
        ids.append(operation["operationId"])
        assert operation["summary"] and operation["description"] and operation["tags"], name
        assert {"404", "405", "500"} <= set(operation["responses"]), name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            if int(status) >= 400:
                content = response["content"]
                assert set(content) == {"application/json"}, (name, status)
                assert content["application/json"]["schema"], (name, status)
    assert len(ids) == len(set(ids))


def test_error_examples_fit_their_schema(document: dict[str, Any]) -> None:
    error = document["components"]["schemas"]["ErrorResponse"]
    examples = [
        media["example"]
        for _, operation in operations(document)
        for status, response in operation["responses"].items()
        for media in response.get("content", {}).values()
        if "example" in media and int(status) >= 400
    ]
    assert len(examples) > 30
    assert all(set(example) == set(error["required"]) == {"error"} for example in examples)


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_bodies_are_the_parameters(document: dict[str, Any], slug: str, version: str) -> None:
    body = document["paths"][f"/{version}/{slug}"]["post"]["requestBody"]
    shape = MODELS[slug].params
    assert body["required"]
    assert set(body["content"]) == ENCODINGS
    for encoding, media in body["content"].items():
        schema = resolve(document, media["schema"])
        assert set(schema["properties"]) == set(shape.model_fields) | EXTENSIONS
        assert all(field.get("description") for field in schema["properties"].values())
        image = schema["properties"][shape.image_fields[0]]
        kinds = [kind["format"] for kind in image.get("anyOf", [image])]
        assert kinds == (["binary"] if encoding == "multipart/form-data" else []) + ["image-reference"]
    shape.model_validate(body["content"]["application/json"]["example"])


def test_pictures_are_described_truthfully(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/ic-light"]["post"]["responses"]["200"]["content"]
    assert set(content) == {"image/webp", "image/jpeg", "image/png", "application/json"}
    assert resolve(document, content["application/json"]["schema"])["title"] == "ResultResponse"


def test_keys_are_optional_only_where_none_are_set(make_settings: MakeSettings) -> None:
    free = create_app(make_settings()).openapi()
    guarded = create_app(make_settings(api_keys="k")).openapi()
    schemes = [{"ApiKey": []}, {"Bearer": []}]
    assert set(free["components"]["securitySchemes"]) == {"ApiKey", "Bearer"}
    for (name, one), (_, other) in zip(operations(free), operations(guarded), strict=True):
        if name.endswith("/files/{name}"):
            assert one["security"] == other["security"] == [*schemes, {}], "only uploads have an owner"
            continue
        public = name.endswith(("/live", "/ready"))
        assert one.get("security") == (None if public else [{}, *schemes]), name
        assert other.get("security") == (None if public else schemes), name


def test_answers_fit_their_schemas(client: Client, worker: FakeWorker, document: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_dict(document)
    seen: list[tuple[str, int]] = []

    def check(method: str, path: str, expected: int, **options: Any) -> Any:
        url = path.format(request_id=options.pop("request_id", ""), name=options.pop("name", ""))
        answer = client.request(method, url, **options)
        assert answer.status_code == expected
        schema[path.partition("?")[0]][method].validate_response(answer)
        seen.append((path, expected))
        return answer

    for slug in SLUGS:
        submitted = check("POST", f"/v2/{slug}", 200, json=body_for(slug, number_of_images=2)).json()["request_id"]
        failed = check("POST", f"/v2/{slug}", 200, json=body_for(slug)).json()["request_id"]
        for status in ("queued", "completed"):
            for path in REQUEST_PATHS:
                check("GET", path, 200, request_id=submitted)
            if status == "queued":
                worker.complete(submitted)
        check("GET", EVENTS_PATH, 200, request_id=submitted)
        check(
            "GET", EVENTS_PATH, 204, request_id=submitted, headers={"Last-Event-ID": event_id(worker.record(submitted))}
        )
        check("GET", REQUEST_PATHS[0] + "?wait=61", 400, request_id=submitted)
        worker.fail(failed)
        for path in REQUEST_PATHS:
            check("GET", path, 422, request_id=failed)
            check("GET", path, 404, request_id="x")
        check("POST", f"/v1/{slug}", 400, json={})
    name = worker.record(submitted).outputs[0].name
    check("GET", "/files/{name}", 200, name=name)
    check("GET", "/files/{name}", 206, name=name, headers={"Range": "bytes=0-3"})
    check("GET", "/files/{name}", 304, name=name, headers={"If-None-Match": "*"})
    check("GET", "/files/{name}", 416, name=name, headers={"Range": "bytes=99999-"})
    check("POST", "/upload-asset", 200, json={"data_urls": [DATA_URI]})
    check("POST", "/upload-asset", 400, json={})
    check("GET", "/v1/get-user-credits", 200)
    check("GET", "/health/live", 200)
    check("GET", "/health/ready", 503)
    worker.heartbeat(ic_light=ModelReport(ModelState.READY, "demo"))
    check("GET", "/health/ready", 200)
    assert {path.partition("?")[0] for path, _ in seen} == set(document["paths"])


def test_examples_fit_their_schemas(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    exemplified = {name: schema["example"] for name, schema in schemas.items() if "example" in schema}
    assert {name for name in schemas if name.endswith("Response")} - set(exemplified) == {
        "ErrorResponse",
        "ImageResponse",
    }
    for name, example in exemplified.items():
        whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        jsonschema_rs.validate(whole, example)
