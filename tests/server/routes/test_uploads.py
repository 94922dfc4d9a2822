"""Uploads."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from server.settings import GatewaySettings
from tests.server.support import DATA_URI, PNG, Client, FakeWorker, picture


def _data_uri(form: str) -> str:
    return f"data:image/{form.lower()};base64," + base64.b64encode(picture(form=form)).decode()


def _files(settings: GatewaySettings) -> set[Path]:
    return set(Path(settings.store_location).rglob("*.*"))


def test_uploaded_pictures_have_addresses(client: Client) -> None:
    answer = client.post("/upload-asset", json={"data_urls": [_data_uri(form) for form in ("PNG", "JPEG", "WEBP")]})
    body = answer.json()
    assert answer.status_code == 200
    assert body["message"] == "Files uploaded successfully"
    assert body["urls"] == body["file_urls"]
    media_types = [client.get(url).headers["content-type"] for url in body["urls"]]
    assert media_types == ["image/png", "image/jpeg", "image/webp"]


def test_an_upload_can_be_used_as_input(client: Client, worker: FakeWorker) -> None:
    url = client.post("/upload-asset", json={"data_urls": [DATA_URI]}).json()["urls"][0]
    request_id = client.submit("pulid-lightning", face_image=url)
    assert worker.store.read(worker.record(request_id).params["face_image"]) == PNG


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "data_urls: is required"),
        ({"data_urls": DATA_URI}, "data_urls: must be a valid list"),
        ({"data_urls": []}, "data_urls: must have at least 1 item"),
        ({"data_urls": [DATA_URI] * 17}, "data_urls: must have at most 16 items"),
        ({"data_urls": [1]}, "data_urls.0: must be a valid string"),
        ({"data_urls": [DATA_URI, "https://example.com/a.png"]}, "data_urls.1: must be a data URL"),
        ({"data_urls": [DATA_URI, "data:text/plain;base64,aGVsbG8="]}, "data_urls.1: The image is not a readable"),
    ],
)
def test_refused_uploads_leave_nothing(
    client: Client, settings: GatewaySettings, body: dict[str, Any], words: str
) -> None:
    before = _files(settings)
    answer = client.post("/upload-asset", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(words)
    assert _files(settings) == before
