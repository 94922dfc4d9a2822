"""What is refused, and in which words."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from server.settings import GatewaySettings
from tests.server.conftest import MakeSettings
from tests.server.support import (
    PNG,
    SLUGS,
    Client,
    FakeWorker,
    Host,
    body_for,
    image_field,
    picture,
    serving,
)
from tests.workers.state.support import unfinished

JSON = {"content-type": "application/json"}


def refused(answer: Any, status: int = 400) -> str:
    """The sentence of a refusal, after a look at its shape."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) <= {"error", "detail"}
    assert isinstance(body["error"], str) and body["error"]
    return str(body["error"])


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"width": 300}, "width", "must be one of 256, 320"),
        ({"width": "wide"}, "width", "must be a valid integer"),
        ({"width": 512.5}, "width", "must be a valid integer"),
        ({"width": 10**400}, "width", "must be one of"),
        ({"cfg": 0.5}, "cfg", "must be greater than or equal to 1"),
        ({"steps": 101}, "steps", "must be less than or equal to 100"),
        ({"number_of_images": 13}, "number_of_images", "must be less than or equal to 12"),
        ({"output_format": "gif"}, "output_format", "must be 'webp', 'jpg' or 'png'"),
        ({"light_source": "Below"}, "light_source", "must be 'None'"),
        ({"seed": "lucky"}, "seed", "must be a valid integer"),
        ({"prompt": None}, "prompt", "is required"),
        ({"prompt": 5}, "prompt", "must be a valid string"),
        ({"prompt": "\ud800"}, "prompt", "must be a valid string"),
        ({"prompt": "x" * 10_001}, "prompt", "must have at most 10000 characters"),
        ({"subject_image": None}, "subject_image", "is required"),
        ({"subject_image": ""}, "subject_image", "must have at least 1 character"),
        ({"subject_image": ["a"]}, "subject_image", "must be a valid string"),
    ],
)
def test_parameters(client: Client, fields: dict[str, Any], field: str, words: str) -> None:
    content = json.dumps(body_for("ic-light", **fields))
    answer = client.post("/v2/ic-light", content=content, headers=JSON)
    assert refused(answer).startswith(f"{field}: {words}")
    assert [detail["field"] for detail in answer.json()["detail"]] == [field]


def test_all_wrong_fields_are_named(client: Client) -> None:
    answer = client.post("/v1/ic-light", json={"width": 1, "steps": 0})
    fields = {detail["field"] for detail in answer.json()["detail"]}
    assert fields == {"width", "steps", "prompt", "subject_image"}
    assert all(field in refused(answer) for field in fields)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe\xfa",
        b'{"cfg": NaN}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=lambda content: content[:12].decode("latin-1"),
)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_malformed_json(client: Client, content: bytes, version: str) -> None:
    assert refused(client.post(f"/{version}/ic-light", content=content, headers=JSON)).startswith("The request body")


@pytest.mark.parametrize("media_type", [None, "", "text/plain", "application/xml", "json", "multipart/mixed"])
def test_unknown_media_types(client: Client, media_type: str | None) -> None:
    headers = {} if media_type is None else {"content-type": media_type}
    answer = client.post("/v2/ic-light", content=b"{}", headers=headers)
    assert refused(answer).startswith("Send the parameters as application/json")


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=" + "b" * 500, b"x"),
        ("multipart/form-data; boundary=b", b"--c\r\n\r\nother boundary"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b; charset=idna",
            b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff..\r\n--b--\r\n',
        ),
        ("application/x-www-form-urlencoded", b"&".join(b"a=1" for _ in range(500))),
        ("application/x-www-form-urlencoded", b"prompt=\xff"),
    ],
)
def test_malformed_forms(client: Client, media_type: str, content: bytes) -> None:
    refused(client.post("/v2/ic-light", content=content, headers={"content-type": media_type}))


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"GIF89a not really", "is not a readable JPEG, PNG, WebP, HEIC or AVIF"),
        (picture(200, 200, "JPEG")[:-300], "is damaged or cut short"),
        (picture(200, 200, "PNG")[:-30], "is damaged or cut short"),
        (picture(8, 8), "each side must have at least 32"),
        (picture(6000, 5000, "PNG"), "25 megapixels"),
        (PNG + b"\0" * 20 * 1024**2, "larger than 20 MB"),
        (b"", "is empty"),
    ],
    ids=["other format", "cut jpeg", "cut png", "tiny", "bomb", "large", "empty"],
)
def test_pictures(client: Client, slug: str, image: bytes, words: str) -> None:
    answer = client.post(f"/v2/{slug}", data={"prompt": "p"}, files={image_field(slug): ("photo", image)})
    assert words in refused(answer)
    assert answer.json()["detail"][0]["field"] == image_field(slug)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("cat.png", "must be an http(s) URL, a data URI or base64"),
        ("ftp://example.com/cat.png", "must be an http(s) URL"),
        ("file:///etc/passwd", "must be an http(s) URL"),
        ("../etc/passwd", "must be"),
        ("data:image/png;base64", "data URI is malformed"),
        ("data:image/png;base64,@@@", "must be"),
        ("data:,hello", "is not a readable"),
        ("\x00", "must be"),
        (base64.b64encode(b"text").decode(), "is not a readable"),
        ("http://", "does not lead to"),
        ("http://[::1", "is malformed"),
        ("http://a\x00b/", "is malformed"),
    ],
)
def test_references(client: Client, reference: str, words: str) -> None:
    answer = client.post("/v2/ic-light", json=body_for("ic-light", subject_image=reference))
    assert words in refused(answer)


def test_unreachable_urls(client: Client, host: Host) -> None:
    host.pages["/page"] = (200, {"Content-Type": "text/html"}, b"<html>")
    for path, words in (("/gone", "status 404"), ("/page", "text/html, not a picture")):
        answer = client.post("/v2/ic-light", json=body_for("ic-light", subject_image=host.url + path))
        assert words in refused(answer)


def test_nothing_is_left_of_a_refused_request(client: Client, worker: FakeWorker, settings: GatewaySettings) -> None:
    before = set(Path(settings.store_location).rglob("*"))
    refused(client.post("/v2/ic-light", json=body_for("ic-light", subject_image="cat.png")))
    assert set(Path(settings.store_location).rglob("*")) == before
    assert unfinished(worker.redis) == []
    assert worker.records.depth("ic-light") == 0


def test_output_megapixels(client: Client, make_settings: MakeSettings) -> None:
    largest = {"width": 1024, "height": 1024, "highres_scale": 3.0}
    answer = client.post("/v2/ic-light", json=body_for("ic-light", number_of_images=7, **largest))
    assert refused(answer).startswith("number_of_images: 7 pictures of 3072 x 3072 pixels are 66.1 megapixels")
    client.submit("ic-light", number_of_images=6, **largest)
    with serving(make_settings(max_output_megapixels=1)) as strict:
        assert "at most 1 are" in refused(strict.post("/v2/pulid-lightning", json=body_for("pulid-lightning")))


def test_full_queue(make_settings: MakeSettings) -> None:
    with serving(make_settings(queue_limit=2)) as client:
        client.submit("ic-light")
        client.submit("ic-light")
        answer = client.post("/v2/ic-light", json=body_for("ic-light"))
        assert "2 requests are waiting" in refused(answer, 429)
        assert int(answer.headers["retry-after"]) > 0
        client.submit("pulid-lightning")


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies(make_settings: MakeSettings, chunked: bool) -> None:
    content = b'{"prompt": "' + b"x" * 2 * 1024**2 + b'"}'
    sent = iter([content[:1024], content[1024:]]) if chunked else content
    with serving(make_settings(max_body_mb=1)) as client:
        answer = client.post("/v2/ic-light", content=sent, headers=JSON)
        assert "larger than 1 MB" in refused(answer, 413)
        client.submit()


def test_unknown_addresses_and_methods(client: Client) -> None:
    assert "there are pulid-lightning, ic-light" in refused(client.post("/v1/sdxl", json={}), 404)
    assert refused(client.get("/v2/requests"), 404)
    assert refused(client.post("/v2/ic-light/", json={}), 404)
    assert refused(client.get("/index.html"), 404)
    answer = client.get("/v2/ic-light")
    assert refused(answer, 405) == "GET is not allowed here."
    assert answer.headers["allow"] == "POST"
    assert refused(client.delete("/health/live"), 405)


def test_defects_are_not_shown(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit()
    worker.redis.hset(f"facelight:request:{request_id}", "params", "not json")
    assert refused(client.get(f"/v2/requests/{request_id}"), 500) == "Internal server error."
