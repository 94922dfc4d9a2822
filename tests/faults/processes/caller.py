"""A client of the gateways that remembers which requests were accepted."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from PIL import Image

from models.catalog import MODELS
from tests.faults.behaviour import Behaviour

SLUG = "ic-light"
TIMEOUT_S = 60.0


def _small_picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 120, 40)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


PICTURE = _small_picture()


def body_for(behaviour: Behaviour, slug: str = SLUG, **fields: Any) -> dict[str, Any]:
    """The smallest body that asks a model for it."""
    picture = {MODELS[slug].params.image_fields[0]: PICTURE}
    return {**picture, "prompt": behaviour.to_prompt(), "output_format": "png", **fields}


@dataclass(frozen=True)
class Answer:
    """One answer of a gateway: status code (0: none came), body, headers, what broke."""

    code: int
    body: Any
    headers: Mapping[str, str]
    began: float
    """When the call was made, by the monotonic clock."""
    seconds: float
    """How long it took."""
    broke: str = ""

    @property
    def request_id(self) -> str:
        """Of an accepted request."""
        return str(self.body["request_id"])


@dataclass
class Caller:
    """Calls gateways by number. May be used by many threads."""

    urls: list[str]
    accepted: dict[str, str] = field(default_factory=dict)
    """Label by id of every request that a gateway has accepted."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with everything."""
    _threads: threading.local = field(default_factory=threading.local, repr=False)

    def call(self, method: str, path: str, gateway: int = 0, **options: Any) -> Answer:
        """One call; what breaks on the way is told in the answer."""
        options["headers"] = {**self.headers, **options.get("headers", {})}
        began = time.monotonic()
        try:
            answer = self._client().request(method, self.urls[gateway] + path, **options)
        except httpx.TransportError as error:
            return Answer(0, None, {}, began, time.monotonic() - began, f"{type(error).__name__}: {error}")
        return Answer(answer.status_code, _body(answer), answer.headers, began, time.monotonic() - began)

    def submit(
        self, behaviour: Behaviour, slug: str = SLUG, *, gateway: int = 0, key: str = "", **fields: Any
    ) -> Answer:
        """Queue a request; `key` is its idempotency key."""
        headers = {"Idempotency-Key": key} if key else {}
        body = body_for(behaviour, slug, **fields)
        answer = self.call("POST", f"/v2/{slug}", gateway, json=body, headers=headers)
        if answer.code == 200:
            self.accepted[answer.request_id] = behaviour.label
        return answer

    def accept(self, behaviour: Behaviour, slug: str = SLUG, **options: Any) -> str:
        """Queue a request that must be accepted; returns its id."""
        answer = self.submit(behaviour, slug, **options)
        assert answer.code == 200, answer
        return answer.request_id

    def status(self, request_id: str, gateway: int = 0) -> str:
        """State of a request; what came instead, if the gateway does not say."""
        answer = self.call("GET", f"/v2/requests/{request_id}/status", gateway)
        return str(answer.body["status"]) if answer.code in (200, 422) else f"HTTP {answer.code}"

    def result(self, request_id: str) -> dict[str, Any]:
        """The body of a request's result, or of its failure."""
        return dict(self.call("GET", f"/v2/requests/{request_id}").body)

    def pictures(self, request_id: str) -> list[bytes | None]:
        """The files of a completed request; None for one that cannot be had."""
        answers = [self._client().get(image["url"]) for image in self.result(request_id)["images"]]
        return [answer.content if answer.status_code == 200 else None for answer in answers]

    def cancel(self, request_id: str) -> Answer:
        """Ask for the end of a request."""
        return self.call("DELETE", f"/v2/requests/{request_id}")

    def _client(self) -> httpx.Client:
        if not hasattr(self._threads, "client"):
            self._threads.client = httpx.Client(
                trust_env=False, timeout=TIMEOUT_S, verify=False
            )  # reading certificates takes 30 ms
        client: httpx.Client = self._threads.client
        return client


def is_final(status: str) -> bool:
    """Whether nothing follows this state."""
    return status in {"COMPLETED", "FAILED"}


def colour_of(picture: bytes) -> str:
    """Colour of a picture of one colour, as six hexadecimal digits: the run that painted it."""
    pixel = Image.open(io.BytesIO(picture)).convert("RGB").getpixel((0, 0))
    return bytes(pixel).hex()


def _body(answer: httpx.Response) -> Any:
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return answer.json() if is_json else answer.content
