"""Parts of the gateway's tests: a gateway on a real port, a played worker, pictures, a host that serves them."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import httpx
from PIL import Image

from models.catalog import MODELS
from models.imaging.decode import MEDIA_TYPES
from server.app import create_app
from server.http.server import build_server
from server.metrics.calls import CallMetrics
from server.settings import GatewaySettings
from tests.workers.state.support import claim, complete, unfinished
from workers.state.connection import connect
from workers.state.record import Output, Record
from workers.state.records import Records
from workers.state.registry import ModelReport, ModelState, WorkerRegistry, WorkerReport
from workers.store.open import open_store

SLUGS = tuple(MODELS)
KEYS = ("SG_0123456789abcdef", "SG_fedcba9876543210")


def picture(width: int = 48, height: int = 32, form: str = "PNG", **options: Any) -> bytes:
    """An encoded picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 120, 40)).save(out, form, **options)
    return out.getvalue()


PNG = picture()
DATA_URI = "data:image/png;base64," + base64.b64encode(PNG).decode()


def image_field(slug: str) -> str:
    """Name of a model's image field."""
    return MODELS[slug].params.image_fields[0]


def body_for(slug: str, **fields: Any) -> dict[str, Any]:
    """The smallest body that a model accepts, and what `fields` add or replace."""
    return {image_field(slug): DATA_URI, "prompt": "a portrait", **fields}


class Client(httpx.Client):
    """Speaks to one gateway."""

    def submit(self, slug: str = "ic-light", **fields: Any) -> str:
        """Queue a request with a JSON body; returns its id."""
        answer = self.post(f"/v2/{slug}", json=body_for(slug, **fields))
        assert answer.status_code == 200, answer.text
        request_id: str = answer.json()["request_id"]
        return request_id


@contextmanager
def serving(
    settings: GatewaySettings,
    patience_s: int | None = None,
    loop: str = "uvloop",
    metrics: CallMetrics | None = None,
) -> Iterator[Client]:
    """Run a gateway on a free port of this machine for as long as the block lasts.

    It waits `patience_s` for requests under way when it is stopped; `metrics` counts its calls.
    """
    server = build_server(create_app(settings, metrics), settings.model_copy(update={"port": 0}))
    server.config.timeout_graceful_shutdown = patience_s
    server.config.loop = loop
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the gateway did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)


def wait_for_gateway(url: str) -> None:
    """Return when the gateway answers; the worker may still be loading."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            httpx.get(f"{url}/health/live", trust_env=False, verify=False)
            return
        time.sleep(0.1)
    raise AssertionError("the gateway did not start")


class FakeWorker:
    """Does with requests what a worker does, but paints nothing."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.redis = connect(settings.redis_url)
        self.records = Records(self.redis, settings.result_ttl_s, settings.request_ttl_s)
        self.store = open_store(settings.store_location)
        self.registry = WorkerRegistry(self.redis, settings.heartbeat_ttl_s)
        self._begun: dict[str, Record] = {}
        self._seen: set[str] = set()

    def record(self, request_id: str) -> Record:
        """The record of a request that must exist."""
        record = self.records.get(request_id)
        assert record is not None
        return record

    def start(self, request_id: str) -> Record:
        """Begin on a request, and on those whose turn is before."""
        record = self.record(request_id)
        while request_id not in self._begun:
            taken = claim(self.records, record.slug, record.variant, f"played-{len(self._begun)}")
            assert taken is not None, f"{request_id} does not wait"
            self._begun[taken.request_id] = taken
        return self._begun[request_id]

    def complete(self, request_id: str) -> tuple[Output, ...]:
        """End a request with the pictures it asks for."""
        record = self.start(request_id)
        outputs = tuple(self._output(record, index) for index in range(record.params["number_of_images"]))
        assert complete(self.records, record, outputs, inference_time=1.25)
        return outputs

    def fail(self, request_id: str, error: str = "No face was found in the picture.") -> None:
        """End a request with a failure."""
        assert self.records.fail(self.start(request_id), error, inference_time=0.5)

    def await_request(self, slug: str, timeout_s: float = 10) -> str:
        """Wait for the next request of a model, and leave it waiting; returns its id."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for request_id in unfinished(self.redis):
                if request_id not in self._seen and self.record(request_id).slug == slug:
                    self._seen.add(request_id)
                    return request_id
            time.sleep(0.01)
        raise AssertionError("no request arrived")

    def heartbeat(self, **models: ModelReport) -> None:
        """Report models as a living worker does; the words of a slug joined by underscores."""
        reports = {slug.replace("_", "-"): report for slug, report in models.items()}
        self.registry.heartbeat(WorkerReport("played", "cpu", reports))

    def announce(self) -> None:
        """Report once that both models are served, in all variants and with demo weights."""
        reports = {slug: ModelReport(ModelState.READY, "demo", variants=MODELS[slug].params.variants) for slug in SLUGS}
        self.heartbeat(**{slug.replace("-", "_"): report for slug, report in reports.items()})

    def _output(self, record: Record, index: int) -> Output:
        extension = record.params["output_format"]
        form = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[extension]
        data = picture(48 + index, 32, form)
        name = self.store.put(data, extension, 3600)
        return Output(name, MEDIA_TYPES[extension], len(data), 48 + index, 32)


@contextmanager
def working(settings: GatewaySettings, completing: bool = True) -> Iterator[None]:
    """Have a worker that can serve everything for as long as the block lasts: requests are completed as they come.

    If it is not `completing`, it leaves them waiting.
    """
    worker, ended = FakeWorker(settings), threading.Event()

    def work() -> None:
        announced = 0.0
        while not ended.wait(0.005):
            if time.monotonic() - announced > 2:
                worker.announce()
                announced = time.monotonic()
            for request_id in unfinished(worker.redis) if completing else ():
                if not worker.record(request_id).cancel_requested:
                    with suppress(AssertionError):  # cancelled meanwhile
                        worker.complete(request_id)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass
class Host:
    """A web server on this machine. `pages` maps paths to (status, headers, body); `/to/<url>` redirects."""

    url: str
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """(path, Host header) of every request."""
    cookies: list[str] = field(default_factory=list)
    """Cookie headers of all requests that had one."""
    released: threading.Event = field(default_factory=threading.Event)
    """Lets the page `/slow` end."""


@contextmanager
def hosting() -> Iterator[Host]:
    """Serve a `Host` for as long as the block lasts."""
    host = Host("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.requests.append((self.path, self.headers["Host"]))
            host.cookies += self.headers.get_all("Cookie", [])
            if self.path == "/slow":
                self._drip()
            elif self.path.startswith("/to/"):
                self._answer(302, {"Location": unquote(self.path[4:])}, b"")
            else:
                self._answer(*host.pages.get(self.path, (404, {}, b"no such page")))

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # the client had enough
                self.wfile.write(body)

        def _drip(self) -> None:
            self._answer(200, {}, b"a")
            while not host.released.wait(0.05):
                self._body(b"a")

        def _body(self, data: bytes) -> None:
            try:
                self.wfile.write(data)
            except OSError:
                host.released.set()

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.url = f"http://127.0.0.1:{server.server_port}"
    host.pages["/photo.png"] = (200, {"Content-Type": "image/png"}, PNG)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield host
    finally:
        host.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
