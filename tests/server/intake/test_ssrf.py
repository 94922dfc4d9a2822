"""The corpus of hostile URLs, through the door of a running gateway: all refused, and nobody inside hears a thing."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from server.settings import GatewaySettings
from tests.server.intake.ssrf_corpus import CASES, NAMES, PUBLIC, VICTIMS
from tests.server.support import PNG, Client, body_for, serving


class Victims:
    """Listeners on one port of several addresses that nobody must reach."""

    def __init__(self, stack: ExitStack) -> None:
        self.visits: list[str] = []
        first = stack.enter_context(socket.create_server((VICTIMS[0], 0)))
        self.port: int = first.getsockname()[1]
        others = [stack.enter_context(_listener(address, self.port)) for address in VICTIMS[1:]]
        for listener in (first, *others):
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            # Closing alone does not wake a thread that waits in accept.
            stack.callback(listener.shutdown, socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, peer = listener.accept()
                self.visits.append(f"{listener.getsockname()} from {peer}")
                connection.close()


def _listener(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family)


class Redirecting(BaseHTTPRequestHandler):
    """Serves a picture, and redirects wherever it is told to."""

    def do_GET(self) -> None:
        parts = self.path.split("/", 3)
        if parts[1] == "to":
            self.send_response(int(parts[2]))
            self.send_header("Location", unquote(parts[3]))
            self.end_headers()
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PNG)

    def log_message(self, *_args: object) -> None:
        """Keep the test output clean."""


class Door:
    """A gateway, what lies behind it, and every address that the gateway has tried to connect to."""

    def __init__(self, client: Client, settings: GatewaySettings, victims: Victims, host: str) -> None:
        self.client = client
        self.settings = settings
        self.victims = victims
        self.host = host
        self.tried: list[Any] = []

    def url(self, case: str) -> str:
        """The URL of a case, its blanks filled in."""
        url = case.replace("{host}", self.host).replace("%7Bhost%7D", self.host)
        return url.replace("{port}", str(self.victims.port))

    def send(self, case: str) -> Any:
        """Ask for a picture by that URL."""
        return self.client.post("/v2/ic-light", json=body_for("ic-light", subject_image=self.url(case)))

    def check_nobody_inside_has_heard(self) -> None:
        """Nothing was connected to but the gateway and what is public."""
        gateway = (self.client.base_url.host, self.client.base_url.port)
        allowed = {gateway, (PUBLIC, int(self.host.rpartition(":")[2])), (PUBLIC, self.victims.port)}
        assert [peer for peer in self.tried if peer not in allowed] == []
        assert self.victims.visits == []


@pytest.fixture(scope="module")
def door(own_redis_socket: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        web = stack.enter_context(ThreadingHTTPServer((PUBLIC, 0), Redirecting))
        threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True).start()
        stack.callback(web.shutdown)
        settings = GatewaySettings(
            redis_url=f"unix://{own_redis_socket}",
            data_dir=tmp_path_factory.mktemp("ssrf"),
            fetch_allow_cidrs=f"{PUBLIC}/32",
            janitor_interval_s=86_400,
        )
        # uvloop connects without the interpreter, whose audit hooks would not hear of it.
        client = stack.enter_context(serving(settings, loop="asyncio"))
        made = Door(client, settings, Victims(stack), f"http://{PUBLIC}:{web.server_port}")
        patch.setattr(socket, "getaddrinfo", Resolver())
        _watch(made)
        yield made


class Resolver:
    """The system's resolver, which knows the corpus' names too and no name of the real world."""

    def __init__(self) -> None:
        self._true = socket.getaddrinfo
        self._asked: dict[str, int] = {}

    def __call__(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = (host.decode() if isinstance(host, bytes) else str(host)).lower().rstrip(".")
        if name in NAMES:
            turn = self._asked[name] = self._asked.get(name, -1) + 1
            addresses = NAMES[name][min(turn, len(NAMES[name]) - 1)]
            return [entry for address in addresses for entry in self._true(address, port, *args, **options)]
        if name == "photos.example":
            return self._true(PUBLIC, port, *args, **options)
        return self._true(host, port, *args, **options)


_watched: list[Door] = []


def _watch(door: Door) -> None:
    """Have the interpreter tell of every connection that any thread begins. A hook stays for ever, so there is one."""
    if not _watched:
        sys.addaudithook(_note)
    _watched[:] = [door]


def _note(event: str, details: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _watched and isinstance(details[1], tuple):
        _watched[0].tried.append(details[1][:2])


def test_the_corpus_is_large() -> None:
    assert len(set(CASES)) == len(CASES) >= 120


def test_what_is_public_is_fetched(door: Door) -> None:
    """The refusals below mean something only if this works: plainly, by name, and after a redirect."""
    port = door.host.rpartition(":")[2]
    for case in ("{host}/photo.png", "{host}/to/302/{host}/photo.png", f"http://photos.example:{port}/photo.png"):
        answer = door.send(case)
        assert answer.status_code == 200, answer.text
    assert (PUBLIC, int(port)) in door.tried


@pytest.mark.parametrize("case", CASES)
def test_refused(door: Door, case: str) -> None:
    door.tried.clear()
    answer = door.send(case)
    assert answer.status_code == 400, answer.text
    message = answer.json()["error"]
    assert message.startswith("subject_image: ")
    assert not any(secret in message for secret in ("127.", "169.254", "::1", str(door.victims.port), "/etc"))
    door.check_nobody_inside_has_heard()


def test_a_name_that_changes_its_mind(door: Door) -> None:
    """Asked a second time, the name that was public leads inside: refused as well, without a connection."""
    door.send("http://rebind.test:{port}/photo.png")
    door.tried.clear()
    answer = door.send("http://rebind.test:{port}/photo.png")
    assert answer.status_code == 400
    assert "not public" in answer.json()["error"]
    assert ("127.0.0.1", door.victims.port) not in door.tried
    assert door.victims.visits == []
