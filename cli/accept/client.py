"""Asking a running server for pictures over HTTP, as its clients do."""

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

from cli.accept import CannotRun, Refused
from cli.accept.luma import Rgb
from cli.accept.photos import Photo
from models.catalog import MODELS
from models.errors import UnreadableImage
from models.imaging.decode import decode

_TIMEOUT_S: Final = 60.0
_PATIENCE_S: Final = 1800.0
"""How long one request may take, queue included."""
_PAUSE_S: Final = 0.25
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Ask:
    """One request: `params` are the body's fields but for the photo; `caption` says what is special about it."""

    slug: str
    photo: Photo
    params: Mapping[str, Any]
    caption: str
    version: Literal["v1", "v2"] = "v2"

    @property
    def output_size(self) -> tuple[int, int]:
        """(width, height) in px of the picture that these parameters promise."""
        return MODELS[self.slug].params.model_validate({**self.params, self._image_field: "photo"}).output_size

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body, the photo in it."""
        return {**self.params, self._image_field: base64.b64encode(self.photo.read()).decode()}

    @property
    def _image_field(self) -> str:
        return MODELS[self.slug].params.image_fields[0]


@dataclass(frozen=True)
class Answer:
    """What came back: the file as it was sent and its pixels, the seed named, seconds by the server's and our clock."""

    ask: Ask
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
    """A connection to the server under test."""

    def __init__(self, url: str, key: str | None) -> None:
        """`url` is the server's base address; `key` goes to it and to nobody else."""
        self.url = url.rstrip("/")
        self._headers = {"x-api-key": key} if key else {}
        # A proxy is for the way out, not for this machine.
        self._http = httpx.Client(timeout=_TIMEOUT_S, trust_env=urlsplit(url).hostname not in _LOOPBACK)

    def __enter__(self) -> Self:
        """Use as a context: the connection is closed at its end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the connection."""
        self._http.close()

    def readiness(self) -> dict[str, Any]:
        """The answer of `/health/ready`; raises `CannotRun` if nothing is ready or the key is not accepted."""
        answer = self._json(self._send("GET", "/health/ready"))
        if not isinstance(answer.get("models"), dict):
            raise CannotRun(f"{self.url} is no facelight server: /health/ready says nothing of models.")
        if not answer["ready"]:
            details = "; ".join(f"{slug}: {model['detail']}" for slug, model in answer["models"].items())
            raise CannotRun(f"{self.url} cannot serve yet: {details}.")
        if self._send("GET", "/v1/get-user-credits").status_code == httpx.codes.UNAUTHORIZED:
            raise CannotRun(f"{self.url} does not accept this API key: pass another with --key.")
        return answer

    def version(self) -> str:
        """Version that the server says it is of."""
        return str(self._json(self._send("GET", "/openapi.json")).get("info", {}).get("version", "unknown"))

    def draw(self, ask: Ask) -> Answer:
        """Send one request and wait for its picture; raises `Refused` and `CannotRun`."""
        began = time.monotonic()
        file, seed, inference_s = (self._wait if ask.version == "v1" else self._queue)(ask)
        wall_s = time.monotonic() - began
        return Answer(
            ask, file.content, file.headers.get("content-type", ""), _pixels(file.content), seed, inference_s, wall_s
        )

    def _wait(self, ask: Ask) -> tuple[httpx.Response, int, float]:
        response = self._send("POST", f"/v1/{ask.slug}", json=ask.body, timeout=_PATIENCE_S)
        _check(response)
        headers = response.headers
        return response, int(headers.get("x-seed-value", -1)), float(headers.get("x-generation-time", 0))

    def _queue(self, ask: Ask) -> tuple[httpx.Response, int, float]:
        submitted = self._send("POST", f"/v2/{ask.slug}", json=ask.body)
        _check(submitted)
        result = self._result(self._json(submitted)["request_id"])
        file = self._send("GET", result["output"])
        _check(file)
        return file, result["seed"], result["metrics"]["inference_time"]

    def _result(self, request_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            status = self._send("GET", f"/v2/requests/{request_id}/status")
            _check(status)
            if self._json(status)["status"] == "COMPLETED":
                return self._json(self._send("GET", f"/v2/requests/{request_id}"))
            time.sleep(_PAUSE_S)
        raise Refused(f"Request {request_id} was not finished after {_PATIENCE_S:.0f} s.")

    def _send(self, method: str, address: str, **options: Any) -> httpx.Response:
        url = urljoin(f"{self.url}/", address)
        own = urlsplit(url)[:2] == urlsplit(self.url)[:2]
        try:
            return self._http.request(method, url, headers=self._headers if own else {}, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CannotRun(f"{url} does not answer: {str(error) or type(error).__name__}.") from error

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise CannotRun(f"{response.url} is no address of a facelight server: its answer is no JSON object.")
        return answer


def _check(response: httpx.Response) -> None:
    """Raise `Refused` with the server's own words if it answered with an error."""
    if response.is_success:
        return
    try:
        words = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        words = response.reason_phrase
    raise Refused(f"The server answered {response.status_code}: {words}")


def _pixels(data: bytes) -> Rgb:
    try:
        return np.asarray(decode(data).convert("RGB"))
    except UnreadableImage as error:
        raise Refused(f"The answer is no picture: {error}") from error
