"""Peers that take their time: hosts of pictures that send a byte now and then, clients that never finish a header."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.caller import TIMEOUT_S
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.load import SteadyLoad
from tests.faults.processes.waiting import percentile, until

_SLACK_S = 0.05
"""What chance adds to a 99th percentile on a small machine."""
_FETCH_S = 15.0
_HEADERS_S = 10.0
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1000000\r\n\r\n"


def slow_peers(full: bool, finding: Finding) -> None:
    """Slow hosts and slow clients, while others submit and ask as ever."""
    seconds = 20.0 if full else 4.0
    allowed = {"fetch_allow_cidrs": "127.0.0.0/8", "fetches_per_key": 64}
    with cluster(workers=2, **allowed) as made, dribbling_host() as host:
        _latency(made, seconds / 4)  # warms everything up
        calm = _latency(made, seconds)
        with _fetching(made, host, 8, finding):
            fetching = _latency(made, seconds)
        with slow_clients(made, 200 if full else 50) as sockets:
            began = time.monotonic()
            held = _latency(made, seconds)
            until(lambda: all(_is_closed(found) for found in sockets), "slow clients to be hung up on", 20)
            finding.trial(_of_patience(time.monotonic() - began, max(_HEADERS_S, seconds)))
        made.settled()
        finding.blame(*made.audit())
    for name, found in (("slow hosts", fetching), ("slow clients", held)):
        worse = found - calm
        finding.trial(unless(worse <= _SLACK_S or not full, f"{name}: others wait {worse * 1000:.0f} ms longer (p99)"))
    figures = [f"{found * 1000:.0f} ms" for found in (calm, fetching, held)]
    finding.figure = "p99 of others: calm {}, slow hosts {}, slow clients {}".format(*figures)


def _of_patience(took: float, limit: float) -> str:
    return unless(took <= limit + 3, f"slow clients were hung up on after {took:.1f} s")


def _latency(made: Cluster, seconds: float) -> float:
    with SteadyLoad(lambda: made.caller.submit(Behaviour()), rate=15) as load:
        time.sleep(seconds)
    return percentile(load.latencies(), 0.99)


@contextmanager
def _fetching(made: Cluster, host: str, count: int, finding: Finding) -> Iterator[None]:
    """So many submissions that name a picture on the slow host; each must be refused in time."""
    codes = list[tuple[int, float]]()

    def submit() -> None:
        answer = made.caller.submit(Behaviour(), subject_image=f"{host}/slow.png")
        codes.append((answer.code, answer.seconds))

    threads = [threading.Thread(target=submit, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(TIMEOUT_S)
    for code, took in codes:
        finding.trial(unless(code == 400 and took <= _FETCH_S + 2, f"a slow picture: {code} after {took:.1f} s"))
    finding.blame(unless(len(codes) == count, f"{count - len(codes)} calls were never answered"))


@contextmanager
def dribbling_host() -> Iterator[str]:
    """A web server that sends a byte of its pictures every half second; yields its URL."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        thread = threading.Thread(target=_dribble, args=(server, ended), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def _dribble(server: socket.socket, ended: threading.Event) -> None:
    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(4096)
                connection.sendall(_ANSWER)
                while not ended.wait(0.5):
                    connection.sendall(b"\x89")
            except OSError:
                return

    while not ended.is_set():
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


@contextmanager
def slow_clients(made: Cluster, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that have sent half a header and add a byte every second."""
    address = urlsplit(made.caller.urls[0])
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection((address.hostname, address.port))) for _ in range(count)
        ]
        for found in sockets:
            found.setblocking(False)
            found.send(b"POST /v2/ic-light HTTP/1.1\r\nHost: facelight\r\nX-Slow: ")
        ended = threading.Event()
        thread = threading.Thread(target=_drip, args=(sockets, ended), daemon=True)
        thread.start()
        try:
            yield sockets
        finally:
            ended.set()
            thread.join()


def _drip(sockets: list[socket.socket], ended: threading.Event) -> None:
    while not ended.wait(1.0):
        for found in sockets:
            try:
                found.send(b"x")
            except OSError:
                continue


def _is_closed(found: socket.socket) -> bool:
    try:
        while found.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


FAULTS = (
    Fault(
        "F18",
        "peers are slow",
        "8 pictures from a host that sends 2 bytes per second; 50 to 200 clients that never complete their header",
        "slow pictures refused within 15 s, slow clients within 10 s; p99 of others as without (± 50 ms)",
        slow_peers,
    ),
)
