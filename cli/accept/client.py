"""Requests to a running server over HTTP, as its clients send them."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import urljoin, urlsplit

import httpx
import numpy as np

from cli.accept import RequestFailed, SetupError
from cli.accept.photos import Photo
from models.catalog import MODELS
from models.errors import UnreadableImage
from models.imaging.decode import decode
from models.imaging.types import Rgb

_TIMEOUT_S: Final = 60.0
_REQUEST_TIMEOUT_S: Final = 1800.0
"""How long one request may take, time in the queue included."""
_POLL_INTERVAL_S: Final = 0.25
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ImageRequest:
    """One request: `params` are the fields of the body except the photo; `caption` says what is special about it."""

    slug: str
    photo: Photo
    params: Mapping[str, Any]
    caption: str
    version: Literal["v1", "v2"] = "v2"

    @property
    def output_size(self) -> tuple[int, int]:
        """(width, height) in px of the image that these parameters ask for."""
        return MODELS[self.slug].params.model_validate({**self.params, self._image_field: "photo"}).output_size

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body, with the photo in base64."""
        return {**self.params, self._image_field: base64.b64encode(self.photo.read()).decode()}

    @property
    def _image_field(self) -> str:
        return MODELS[self.slug].params.image_fields[0]


@dataclass(frozen=True)
class ImageResponse:
    """One image: the file, its decoded pixels, the seed reported, and seconds by the server's and by our clock."""

    request: ImageRequest
    data: bytes
    media_type: str
    pixels: Rgb
    seed: int
    inference_s: float
    wall_s: float

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in px."""
        return self.pixels.shape[1], self.pixels.shape[0]


class Server:
    """HTTP client of the server under test."""

    def __init__(self, url: str, key: str | None) -> None:
        """`url` is the server's base address; `key` is sent to no other host."""
        self.url = url.rstrip("/")
        self._headers = {"x-api-key": key} if key else {}
        # No proxy for loopback.
        self._http = httpx.Client(timeout=_TIMEOUT_S, trust_env=urlsplit(url).hostname not in _LOOPBACK)

    def __enter__(self) -> Self:
        """Use as a context manager: the connections are closed at its end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the connections."""
        self._http.close()

    def readiness(self) -> dict[str, Any]:
        """Body of `/health/ready`; raises `SetupError` if nothing is ready or the key is not accepted."""
        health = self._json(self._send("GET", "/health/ready"))
        if not isinstance(health.get("models"), dict):
            raise SetupError(f"{self.url} is no facelight server: /health/ready has no models.")
        if not health["ready"]:
            details = "; ".join(f"{slug}: {model['detail']}" for slug, model in health["models"].items())
            raise SetupError(f"{self.url} cannot serve yet: {details}.")
        if self._send("GET", "/v1/get-user-credits").status_code == httpx.codes.UNAUTHORIZED:
            raise SetupError(f"{self.url} does not accept this API key: pass another with --key.")
        return health

    def version(self) -> str:
        """The server's version, from its OpenAPI document."""
        return str(self._json(self._send("GET", "/openapi.json")).get("info", {}).get("version", "unknown"))

    def generate(self, request: ImageRequest) -> ImageResponse:
        """Send one request and wait for its image; raises `RequestFailed` and `SetupError`."""
        began = time.monotonic()
        file, seed, inference_s = (self._generate_v1 if request.version == "v1" else self._generate_v2)(request)
        wall_s = time.monotonic() - began
        return ImageResponse(
            request,
            file.content,
            file.headers.get("content-type", ""),
            _pixels(file.content),
            seed,
            inference_s,
            wall_s,
        )

    def _generate_v1(self, request: ImageRequest) -> tuple[httpx.Response, int, float]:
        response = self._send("POST", f"/v1/{request.slug}", json=request.body, timeout=_REQUEST_TIMEOUT_S)
        _check(response)
        headers = response.headers
        return response, int(headers.get("x-seed-value", -1)), float(headers.get("x-generation-time", 0))

    def _generate_v2(self, request: ImageRequest) -> tuple[httpx.Response, int, float]:
        submitted = self._send("POST", f"/v2/{request.slug}", json=request.body)
        _check(submitted)
        result = self._poll(self._json(submitted)["request_id"])
        file = self._send("GET", result["output"])
        _check(file)
        return file, result["seed"], result["metrics"]["inference_time"]

    def _poll(self, request_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + _REQUEST_TIMEOUT_S
        while time.monotonic() < deadline:
            status = self._send("GET", f"/v2/requests/{request_id}/status")
            _check(status)
            if self._json(status)["status"] == "COMPLETED":
                return self._json(self._send("GET", f"/v2/requests/{request_id}"))
            time.sleep(_POLL_INTERVAL_S)
        raise RequestFailed(f"Request {request_id} was not finished after {_REQUEST_TIMEOUT_S:.0f} s.")

    def _send(self, method: str, address: str, **options: Any) -> httpx.Response:
        url = urljoin(f"{self.url}/", address)
        own = urlsplit(url)[:2] == urlsplit(self.url)[:2]
        try:
            return self._http.request(method, url, headers=self._headers if own else {}, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SetupError(f"{url} does not answer: {str(error) or type(error).__name__}.") from error

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise SetupError(f"{response.url} is no address of a facelight server: the body is no JSON object.")
        return body


def _check(response: httpx.Response) -> None:
    """Raise `RequestFailed` with the server's message if it answered with an error."""
    if response.is_success:
        return
    try:
        message = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        message = response.reason_phrase
    raise RequestFailed(f"The server answered {response.status_code}: {message}")


def _pixels(data: bytes) -> Rgb:
    try:
        return np.asarray(decode(data).convert("RGB"))
    except UnreadableImage as error:
        raise RequestFailed(f"The response is not an image: {error}") from error
