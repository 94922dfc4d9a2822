"""How long it takes to bring a picture of 2 MB in, and another one out."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from bench.load.client import Connection, Exchange, in_turn, message, percentile, post_form, post_json
from bench.load.roles import SLUG, Workload, photo, png
from bench.load.stack import Site
from bench.report import Report

_REPEATS: Final = 40
_WARM_UP: Final = 5
_FIELD: Final = "face_image"


def round_trips(report: Report, site: Site, scale: float) -> None:
    """Submit, poll, download, and the same by v1; the picture in JSON, in a form and by URL."""
    picture = png(photo(1024))
    with Connection(site.port) as client, hosting(picture) as url:
        ways: dict[str, Exchange] = {}
        for name, request in _requests(picture, url).items():
            ways[f"v2, {name}"] = partial(_by_polling, client, request("v2"), len(picture))
            ways[f"v1, {name}"] = partial(_at_once, client, request("v1"), len(picture))
        taken = in_turn(list(ways.values()), max(3, round(_REPEATS * scale)), _WARM_UP)
    for name, times in zip(ways, taken, strict=True):
        note = f"{len(picture) / 1e6:.2f} MB each way; fastest {min(times):.1f} ms"
        report.add(f"2 MB round trip, {name}, p50", percentile(times, 0.5), "ms", goal="<= 40", note=note)


def _requests(picture: bytes, url: str) -> dict[str, Callable[[str], bytes]]:
    """How to make a request of a version, by the way in which the picture comes; made once, as clients keep theirs."""
    uri = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    prompt = str(Workload.LARGE)

    def made(make: Callable[[str], bytes]) -> Callable[[str], bytes]:
        ready = {version: make(f"/{version}/{SLUG}") for version in ("v1", "v2")}
        return lambda version: ready[version]

    return {
        "JSON": made(lambda path: post_json(path, {_FIELD: uri, "prompt": prompt})),
        "multipart": made(lambda path: post_form(path, _FIELD, picture, prompt=prompt)),
        "URL": made(lambda path: post_json(path, {_FIELD: url, "prompt": prompt})),
    }


def _by_polling(client: Connection, request: bytes, size: int) -> None:
    """Submit, ask for the state until it is done, ask for the result, download it."""
    accepted = json.loads(client.ask(request))
    while json.loads(client.ask(_get(accepted["status_url"])))["status"] != "COMPLETED":
        time.sleep(0.001)
    result = json.loads(client.ask(_get(accepted["response_url"])))
    _expect(client.ask(_get(result["output"])), size)


def _at_once(client: Connection, request: bytes, size: int) -> None:
    _expect(client.ask(request), size)


def _expect(received: bytes, size: int) -> None:
    if len(received) != size:
        raise RuntimeError(f"{len(received)} bytes came back instead of {size}")


def _get(url: str) -> bytes:
    return message("GET", urlsplit(url).path)


@contextmanager
def hosting(picture: bytes) -> Iterator[str]:
    """Serve one picture on the loopback address; yields its URL."""

    class Host(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(picture)))
            self.end_headers()
            self.wfile.write(picture)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/photo.png"
        server.shutdown()
        thread.join()
