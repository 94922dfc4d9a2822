"""A receiver of webhooks, and time that passes for the outbox alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from redis import Redis
from replicate.webhook import Webhooks, WebhookSigningSecret
from standardwebhooks import Webhook

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Delivery:
    """One POST: its path, headers by names in lower case, body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, parsed."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def id(self) -> str:
        """The `webhook-id`."""
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> None:
        """Check the signature as two libraries of receivers do; raises what they raise."""
        assert Webhook(secret).verify(self.body, self.headers) == self.json
        signing = WebhookSigningSecret(key=secret)
        Webhooks.validate(headers=self.headers, body=self.body.decode(), secret=signing, tolerance=300)


@dataclass
class Receiver:
    """A web server on this machine that takes webhooks."""

    url: str
    deliveries: list[Delivery] = field(default_factory=list)
    answer: Callable[[Delivery], tuple[int, dict[str, str]]] = lambda _: (204, {})
    """Status and headers for a delivery; may take its time."""

    def wait_for(self, count: int, timeout_s: float = PATIENCE_S) -> list[Delivery]:
        """Return when so many deliveries have come."""
        deadline = time.monotonic() + timeout_s
        while len(self.deliveries) < count:
            assert time.monotonic() < deadline, f"{len(self.deliveries)} deliveries instead of {count}"
            time.sleep(0.01)
        return list(self.deliveries)


@contextmanager
def receiving(address: str = "127.0.0.1", port: int = 0) -> Iterator[Receiver]:
    """Run a receiver for as long as the block lasts."""
    receiver = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            body = self.rfile.read(length)
            if len(body) < length:  # its sender was killed: nothing was received
                self.close_connection = True
                return
            delivery = Delivery(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            receiver.deliveries.append(delivery)
            status, headers = receiver.answer(delivery)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

        def handle_error(self, *_args: object) -> None:
            """The gateway does not wait for ever."""

    server = Server((address, port), Handler)
    receiver.url = f"http://{address}:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def let_time_pass(redis: Redis, seconds: float) -> None:
    """Make all messages due, and expire, that much earlier: for the outbox, that time has passed."""
    client: Any = redis
    for receiver in client.zrange("facelight:webhooks", 0, -1):
        outbox = f"facelight:webhooks:{receiver.decode()}"
        for message in client.zrange(outbox, 0, -1):
            client.zincrby(outbox, -seconds, message)
            key = f"facelight:webhook:{message.decode()}"
            client.expire(key, int(client.ttl(key) - seconds))
        client.zincrby("facelight:webhooks", -seconds, receiver)
    client.publish("facelight:webhooks", "")


def pauses(redis: Redis) -> list[float]:
    """Seconds until each message is due, the next one first."""
    client: Any = redis
    seconds, microseconds = client.time()
    receivers = client.zrange("facelight:webhooks", 0, -1)
    dues = [
        due
        for receiver in receivers
        for _, due in client.zrange(f"facelight:webhooks:{receiver.decode()}", 0, -1, withscores=True)
    ]
    return sorted(due - seconds - microseconds / 1e6 for due in dues)
