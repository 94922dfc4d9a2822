"""Calls from outside while something is replaced: a steady load, and a watch over the time that nobody answers."""

from __future__ import annotations

import base64
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.engine.composition import SMALL

_CALLERS: Final = 8
_PAUSE_S: Final = 0.1


def data_url(photo: bytes) -> str:
    """A JPEG as a data URL."""
    return "data:image/jpeg;base64," + base64.b64encode(photo).decode()


@dataclass
class Calls:
    """What became of the calls of a load: how many were made by kind, ids of enqueued requests, and what was wrong."""

    made: Counter[str] = field(default_factory=Counter)
    enqueued: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Load:
    """Callers who upload, enqueue, poll, wait and download through one address, each with connections of its own."""

    def __init__(self, url: str, key: str, tls: ssl.SSLContext | bool, photo: bytes) -> None:
        self._options: dict[str, Any] = {
            "base_url": url,
            "headers": {"x-api-key": key},
            "verify": tls,
            "timeout": 600,
            "trust_env": False,
        }
        self._photo = photo
        self._upload = {"data_urls": [data_url(photo)]}
        self._is_over = threading.Event()
        self.calls = Calls()
        self._lock = threading.Lock()

    @contextmanager
    def running(self, at_least: int) -> Iterator[Calls]:
        """Call for as long as the block takes, and until `at_least` calls were made."""
        callers = [threading.Thread(target=self._call_on, args=(number,)) for number in range(_CALLERS)]
        for caller in callers:
            caller.start()
        try:
            yield self.calls
            until = time.monotonic() + 300
            while sum(self.calls.made.values()) < at_least and time.monotonic() < until:
                time.sleep(0.2)
        finally:
            self._is_over.set()
            for caller in callers:
                caller.join()

    def _call_on(self, number: int) -> None:
        with httpx.Client(**self._options) as client:
            request_id, turn = "", number * 7
            while not self._is_over.is_set():
                turn += 1
                kind = self._kind(turn, number, bool(request_id))
                try:
                    response = self._call(client, kind, request_id)
                except (httpx.HTTPError, ssl.SSLError) as error:
                    self._count(kind, f"{kind}: {error!r}")
                    continue
                good = response.status_code == 200
                self._count(kind, "" if good else f"{kind}: {response.status_code} {response.text[:200]}")
                if good and kind == "enqueue":
                    request_id = response.json()["request_id"]
                    self.calls.enqueued.append(request_id)
                self._is_over.wait(_PAUSE_S)

    @staticmethod
    def _kind(turn: int, number: int, has_request: bool) -> str:
        if number == 0:
            return "wait"
        if turn % 150 == 0:
            return "enqueue"
        kinds = ("credits", "upload", "status" if has_request else "live", "catalog")
        return kinds[turn % len(kinds)]

    def _call(self, client: httpx.Client, kind: str, request_id: str) -> httpx.Response:
        form = {"files": {"subject_image": ("photo.jpg", self._photo, "image/jpeg")}, "data": {**SMALL, "steps": "2"}}
        match kind:
            case "wait":
                return client.post("/v1/ic-light", **form)
            case "enqueue":
                return client.post("/v2/ic-light", **form)
            case "upload":
                return client.post("/upload-asset", json=self._upload)
            case "status":
                return client.get(f"/v2/requests/{request_id}")
            case "credits":
                return client.get("/v1/get-user-credits")
            case "live":
                return client.get("/health/live")
            case _:
                return client.get("/openapi.json")

    def _count(self, kind: str, failure: str) -> None:
        with self._lock:
            self.calls.made[kind] += 1
            if failure:
                self.calls.failures.append(failure)


@dataclass
class Watch:
    """Since when nobody answers, and the longest time that was so, in seconds."""

    longest_s: float = 0.0

    @contextmanager
    def over(self, url: str) -> Iterator[Watch]:
        """Ask `/health/live` below `url` 20 times a second, by a new connection each time, while the block runs."""
        is_over = threading.Event()

        def ask() -> None:
            answered = time.monotonic()
            while not is_over.wait(0.05):
                try:
                    good = httpx.get(f"{url}/health/live", timeout=2, trust_env=False).status_code == 200
                except httpx.HTTPError:
                    good = False
                now = time.monotonic()
                answered, gap = (now, 0.0) if good else (answered, now - answered)
                self.longest_s = max(self.longest_s, gap)

        watcher = threading.Thread(target=ask)
        watcher.start()
        try:
            yield self
        finally:
            is_over.set()
            watcher.join()
