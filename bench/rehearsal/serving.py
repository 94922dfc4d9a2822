"""`facelight serve` on the installed weights: start, state of the models, requests over HTTP."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from PIL import Image

from bench.load.stack import free_port
from bench.photographs import by_pillow, photograph
from bench.rehearsal.processes import FACELIGHT, Usage, Watched, watched

SIDE: Final = 256
"""Width and height of every picture in px: the smallest that both endpoints make."""
_TIMEOUT_S: Final = 3600
_PAUSE_S: Final = 0.25
_WORKER: Final = "-m workers"
_NO_ANSWER: Final = "no answer"
_PENDING: Final = ("loading", "warming up", "no worker serves this model", _NO_ANSWER)
"""What is said of a model that is neither ready nor has failed."""
_SEED: Final = 20_240_509
_SETTINGS: Final = {
    "FACELIGHT_DEVICE": "cpu",
    "FACELIGHT_OFFLINE": "true",
    "FACELIGHT_JOB_TIMEOUT_S": str(_TIMEOUT_S),
    "FACELIGHT_SYNC_TIMEOUT_S": str(_TIMEOUT_S),
    "FACELIGHT_DRAIN_DELAY_S": "0",
}
_REQUESTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "pulid-lightning": {"prompt": "portrait of a person, soft light", "output_format": "png"},
    "ic-light": {"prompt": "person, sunset", "steps": 2, "highres_scale": 1.0, "output_format": "webp"},
}
_PHOTO_FIELDS: Final = {"pulid-lightning": "face_image", "ic-light": "subject_image"}


@dataclass(frozen=True)
class Folders:
    """Where the server's files are; `data` is kept from one start to the next."""

    data: Path
    weights: Path


@dataclass(frozen=True)
class ModelState:
    """What `/health/ready` says of a model."""

    ready: bool
    detail: str


@dataclass(frozen=True)
class Picture:
    """The result of a request: the file, and what it took."""

    file: bytes
    media_type: str
    seconds: float
    cpu_s: float

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in px."""
        return Image.open(io.BytesIO(self.file)).size

    @property
    def levels(self) -> int:
        """Number of different levels; a picture of one colour, which is what inf and nan make, has at most three."""
        return len(np.unique(np.asarray(Image.open(io.BytesIO(self.file)).convert("RGB"))))


class RequestRefused(Exception):
    """A request did not end in a picture; `str()` is the server's answer, or why there is none."""


@dataclass
class Server:
    """A running `facelight serve`; `began` is when it was started, by `time.monotonic`."""

    url: str
    watched: Watched
    began: float

    def states(self) -> dict[str, ModelState]:
        """State of every model; empty while the gateway does not answer."""
        try:
            models = httpx.get(f"{self.url}/health/ready", trust_env=False, timeout=10).json()["models"]
        except (httpx.HTTPError, ValueError, KeyError):
            return {}
        return {slug: ModelState(model["ready"], model["detail"]) for slug, model in models.items()}

    def settled(self, slugs: tuple[str, ...], patience_s: float, most_workers: int = 2) -> dict[str, ModelState]:
        """State of the models as soon as each is ready or has failed.

        Earlier if `patience_s` seconds have passed, if `most_workers` worker processes were started one after the
        other, or if the server has ended.
        """
        while True:
            states = self.states()
            found = {slug: states.get(slug, ModelState(False, _NO_ANSWER)) for slug in slugs}
            over = time.monotonic() - self.began > patience_s or self.watched.process.poll() is not None
            if over or len(self.workers) >= most_workers or all(map(_is_final, found.values())):
                return found
            time.sleep(_PAUSE_S)

    @property
    def workers(self) -> list[Usage]:
        """What each worker process has taken; there is more than one if one ended."""
        return self.watched.started(_WORKER)

    @property
    def worker(self) -> Usage:
        """What the latest worker has taken."""
        return self.workers[-1]

    def request(self, slug: str) -> Picture:
        """Send the rehearsal's request to a model; raises `RequestRefused`."""
        photo = base64.b64encode(by_pillow(photograph("astronaut", 512, 512), "PNG")).decode()
        body = {**_REQUESTS[slug], _PHOTO_FIELDS[slug]: photo, "width": SIDE, "height": SIDE, "seed": _SEED}
        cpu_s, began = self.worker.cpu_s, time.monotonic()
        try:
            response = httpx.post(f"{self.url}/v1/{slug}", json=body, timeout=_TIMEOUT_S, trust_env=False)
        except httpx.HTTPError as error:
            raise RequestRefused(f"{slug} did not answer: {error!r}") from error
        seconds = time.monotonic() - began
        if response.status_code != httpx.codes.OK or not response.headers["content-type"].startswith("image/"):
            raise RequestRefused(f"{slug} answered {response.status_code}: {response.text[:500]}")
        time.sleep(_PAUSE_S)  # what the worker took is looked at in intervals
        return Picture(response.content, response.headers["content-type"], seconds, self.worker.cpu_s - cpu_s)


@contextmanager
def serving(
    folders: Folders, slugs: tuple[str, ...], log: Path, prefix: tuple[str, ...] = (), checkpoints: str = "default"
) -> Iterator[Server]:
    """Run `facelight serve` for models while the block lasts; `prefix` limits its memory."""
    port = free_port()
    settings = {
        **_SETTINGS,
        "FACELIGHT_DATA_DIR": str(folders.data),
        "FACELIGHT_WEIGHTS_DIR": str(folders.weights),
        "FACELIGHT_PORT": str(port),
        "FACELIGHT_MODELS": ",".join(slugs),
        "FACELIGHT_CHECKPOINTS": checkpoints,
    }
    began = time.monotonic()
    with watched([FACELIGHT, "serve"], log, settings, prefix) as found:
        yield Server(f"http://127.0.0.1:{port}", found, began)


def _is_final(state: ModelState) -> bool:
    return state.ready or state.detail not in _PENDING
