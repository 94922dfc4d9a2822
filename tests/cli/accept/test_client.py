"""The client when a server is unreachable, is no facelight server, or answers with errors."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cli.accept import RequestFailed, SetupError
from cli.accept.client import ImageRequest, Server
from cli.accept.photos import CAT
from models.imaging.encode import encode
from tests.cli.accept.pictures import fitted
from tests.live_server import free_port

ASK = ImageRequest("ic-light", CAT, {"prompt": "a cat", "output_format": "png", "seed": 1}, "")
PICTURE = encode(fitted(CAT, 64, 64), "png", 80)


@contextmanager
def scripted(responses: dict[str, tuple[int, object]]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that gives one response per path; yields its URL and a list of (path, key sent)."""
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def response(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            seen.append((self.path, self.headers.get("x-api-key")))
            status, body = responses.get(self.path, (404, {"error": "There is nothing at this address."}))
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "image/png" if isinstance(body, bytes) else "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = response

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()


def finished(output: str) -> dict[str, tuple[int, object]]:
    """Answers to a v2 request whose picture is at `output`."""
    result = {"status": "COMPLETED", "output": output, "seed": 1, "metrics": {"inference_time": 2.5}}
    return {
        "/v2/ic-light": (200, {"request_id": "r", "status": "QUEUED"}),
        "/v2/requests/r/status": (200, {"status": "COMPLETED"}),
        "/v2/requests/r": (200, result),
    }


def test_an_unreachable_server_is_a_setup_error():
    with (
        Server(f"http://127.0.0.1:{free_port()}", None) as server,
        pytest.raises(SetupError, match="does not answer"),
    ):
        server.readiness()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "http://"])
def test_an_invalid_address_is_a_setup_error(url: str):
    with Server(url, None) as server, pytest.raises(SetupError, match="does not answer"):
        server.readiness()


@pytest.mark.parametrize(
    ("health", "complaint"),
    [
        ((404, b"<html>"), "is no address of a facelight server"),
        ((200, {"status": "fine"}), "no facelight server"),
        ((200, ["models"]), "is no address of a facelight server"),
        (
            (503, {"ready": False, "models": {"ic-light": {"ready": False, "detail": "loading"}}}),
            "cannot serve yet: ic-light: loading",
        ),
    ],
)
def test_a_server_that_cannot_serve_ends_the_run(health: tuple[int, object], complaint: str):
    with (
        scripted({"/health/ready": health}) as (url, _),
        Server(url, None) as server,
        pytest.raises(SetupError, match=complaint),
    ):
        server.readiness()


def test_a_refused_key_ends_the_run():
    responses = {
        "/health/ready": (200, {"ready": True, "models": {}}),
        "/v1/get-user-credits": (401, {"error": "Unauthorized."}),
    }
    with (
        scripted(responses) as (url, _),
        Server(url, "wrong") as server,
        pytest.raises(SetupError, match="does not accept this API key"),
    ):
        server.readiness()


def test_the_key_is_sent_to_the_server_only():
    with (
        scripted({"/picture.png": (200, PICTURE)}) as (elsewhere, seen_elsewhere),
        scripted(finished(f"{elsewhere}/picture.png")) as (url, seen),
        Server(url, "secret") as server,
    ):
        response = server.generate(ASK)
    assert (response.size, response.seed, response.inference_s, response.media_type) == ((64, 64), 1, 2.5, "image/png")
    assert {key for _, key in seen} == {"secret"}
    assert seen_elsewhere == [("/picture.png", None)]


@pytest.mark.parametrize(
    ("responses", "complaint"),
    [
        ({"/v2/ic-light": (400, {"error": "prompt: is required"})}, "400: prompt: is required"),
        ({"/v2/ic-light": (502, b"<html>Bad gateway</html>")}, "502: Bad Gateway"),
        (finished("/x") | {"/v2/requests/r/status": (422, {"error": "No face."})}, "422: No face."),
        (finished("/files/gone.png"), "404: There is nothing"),
        (finished("/files/a.png") | {"/files/a.png": (200, PICTURE[:200])}, "The response is not an image"),
    ],
)
def test_a_failed_request_has_the_servers_message(responses: dict[str, tuple[int, object]], complaint: str):
    with scripted(responses) as (url, _), Server(url, None) as server, pytest.raises(RequestFailed, match=complaint):
        server.generate(ASK)
