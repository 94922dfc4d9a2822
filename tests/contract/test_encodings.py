"""Every way to send a body that clients of the hosted API use gives a picture, on both endpoints."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.live_server import LiveServer

ENDPOINTS = [
    pytest.param("pulid-lightning", "face_image", "face.png", {"width": "256", "height": "256"}, id="pulid-lightning"),
    pytest.param(
        "ic-light",
        "subject_image",
        "cup.png",
        {"prompt": "a cup", "width": "256", "height": "256", "steps": "2", "highres_scale": "1"},
        id="ic-light",
    ),
]


def check(response: httpx.Response) -> None:
    assert response.status_code == 200, response.text
    assert Image.open(io.BytesIO(response.content)).size == (256, 256)


@pytest.mark.parametrize(("slug", "field", "photo", "params"), ENDPOINTS)
@pytest.mark.parametrize(
    "encoding", ["json-url", "json-data-uri", "json-base64", "multipart-file", "multipart-url", "urlencoded"]
)
def test_encoding(
    live: LiveServer, photos: Path, photo_url: str, encoding: str, slug: str, field: str, photo: str, params: dict
) -> None:
    url = f"{live.url}/v1/{slug}"
    image = (photos / photo).read_bytes()
    encoded = base64.b64encode(image).decode()
    bodies: dict[str, dict] = {
        "json-url": {"json": {field: f"{photo_url}/{photo}", **params}},
        "json-data-uri": {"json": {field: f"data:image/png;base64,{encoded}", **params}},
        "json-base64": {"json": {field: encoded, **params}},
        "multipart-file": {"files": {field: (photo, image, "image/png")}, "data": params},
        "multipart-url": {"files": {field: (None, f"{photo_url}/{photo}"), "negative_prompt": (None, "None")}}
        | {"data": params},
        "urlencoded": {"data": {field: f"{photo_url}/{photo}", **params}},
    }
    check(httpx.post(url, **bodies[encoding], timeout=120))


def test_several_pictures_come_as_json(live: LiveServer, photo_url: str) -> None:
    body = {"face_image": f"{photo_url}/face.png", "width": 256, "height": 256, "number_of_images": 2, "seed": 7}
    response = httpx.post(f"{live.url}/v1/pulid-lightning", json=body, timeout=120)
    assert response.status_code == 200
    result = response.json()
    assert len(result["images"]) == 2
    first, second = (httpx.get(image["url"]).content for image in result["images"])
    assert first != second
    assert result["output"] == result["images"][0]["url"]
