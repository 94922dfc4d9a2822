"""Requests to a live server, and measures of the images it returns."""

from __future__ import annotations

import base64
import io

import httpx
import numpy as np
from PIL import Image

from tests.live_server import LiveServer


def post(live: LiveServer, slug: str, photos: dict[str, bytes], **params: object) -> httpx.Response:
    """One request that waits for its result, `photos` by field."""
    encoded = {field: base64.b64encode(photo).decode() for field, photo in photos.items()}
    return httpx.post(f"{live.url}/v1/{slug}", json=encoded | params, timeout=120)


def images_of(response: httpx.Response) -> list[bytes]:
    """The image files of a successful response: its body, or the files behind its URLs."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"].startswith("image/"):
        return [response.content]
    return [httpx.get(image["url"]).content for image in response.json()["images"]]


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), dtype=int)


def size(picture: bytes) -> tuple[int, int]:
    """(width, height) in px."""
    return Image.open(io.BytesIO(picture)).size


def distance(first: bytes, second: bytes) -> float:
    """Mean difference in levels of 255."""
    return float(np.abs(pixels(first) - pixels(second)).mean())
