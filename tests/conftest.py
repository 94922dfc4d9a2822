"""Parts that several rooms' tests use: a real Redis, the demo weights."""

from __future__ import annotations

import atexit
import gc
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
from redis import Redis
from redis.exceptions import RedisError
from xdist.scheduler.loadfile import LoadFileScheduling

from tests.authority import trust_it_alone
from tests.live_server import API_KEY, LiveServer, live_server, photo_host, write_photos
from tests.redis_server import REDIS_SERVER
from tests.s3_server import environment, new_bucket, s3_server, url_of

# Machines may be slow and runs must repeat: no deadlines, no memory of earlier runs.
hypothesis.settings.register_profile("facelight", deadline=None, database=None)
hypothesis.settings.load_profile("facelight")
# Several test processes, and the servers that they start, share the processors.
os.environ.setdefault("OMP_NUM_THREADS", "1")
trust_it_alone()

# What imports create stays: searching it for garbage again and again would take a tenth of the tests' time.
gc.disable()

REPOSITORY = Path(__file__).parents[1]


_ON_ONE_LIVE_SERVER = (
    "tests/cli/accept/test_command.py",
    "tests/contract/",
    "tests/faults/test_processes.py",
    "tests/server/page/test_code_live.py",
    "tests/server/page/test_live.py",
)


class _OneLiveServer(LoadFileScheduling):
    """A file's tests run in one process, and those of all files that share a whole server in the same one.

    A server takes a worker process 20 s to start, and stays until the end of the test process.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "live server" if file.startswith(_ON_ONE_LIVE_SERVER) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    """How tests are distributed over processes; called by pytest-xdist."""
    return _OneLiveServer(config, log)  # type: ignore[no-untyped-call, arg-type]  # it has no types for us


def pytest_collection_finish() -> None:
    """All modules are imported: collect garbage from here on, but not among what they created."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # libraries expect to be collected then


@contextmanager
def running_redis() -> Iterator[Path]:
    """Socket of a Redis that lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="facelight-test-") as folder:
        socket = Path(folder) / "socket"
        options = ["--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", "", "--loglevel", "warning"]
        process = subprocess.Popen([REDIS_SERVER, *options])
        try:
            wait_for_redis(f"unix://{socket}")
            yield socket
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[Path]:
    """Socket of a Redis that lives as long as the test session, with a gateway that many tests share."""
    with running_redis() as socket:
        yield socket


@pytest.fixture(scope="module")
def own_redis_socket() -> Iterator[Path]:
    """Socket of a Redis that no gateway of other tests uses: one would send the webhooks of these."""
    with running_redis() as socket:
        yield socket


@pytest.fixture
def redis_url(redis_socket: Path) -> str:
    """URL of an empty Redis database."""
    return empty_redis(redis_socket)


@pytest.fixture
def own_redis_url(own_redis_socket: Path) -> str:
    """URL of an empty Redis that no gateway of other tests uses."""
    return empty_redis(own_redis_socket)


def empty_redis(socket: Path) -> str:
    """Remove what earlier tests left in the Redis at `socket`; returns its URL."""
    url = f"unix://{socket}"
    Redis.from_url(url).flushall()
    return url


@pytest.fixture(scope="session")
def demo_weights() -> Path:
    """Folder of the demo weights: built by the first run, found by later ones."""
    from models.demo.build import build

    folder = REPOSITORY / "var" / "test" / "weights"
    build(folder)
    return folder


def wait_for_redis(url: str, timeout_s: float = 10.0) -> None:
    """Return as soon as the Redis at `url` answers."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            Redis.from_url(url).ping()
            return
        except RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `face.png`, `cat.png`, `cup.png`, `flat.png`."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder


@pytest.fixture(scope="session")
def photo_url(photos: Path) -> Iterator[str]:
    """URL of a host on the loopback address that serves the folder `photos`."""
    with photo_host(photos) as url:
        yield url


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """URL of an S3-compatible server that lives as long as the test session."""
    with s3_server() as server:
        yield url_of(server)


@pytest.fixture
def bucket(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket of that server; the environment says how to reach it."""
    for name, value in environment(s3_url).items():
        monkeypatch.setenv(name, value)
    return new_bucket()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory, demo_weights: Path) -> Iterator[LiveServer]:
    """A whole server with demo weights and without keys, shared by all tests that leave it running."""
    with live_server(tmp_path_factory.mktemp("live"), demo_weights) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory, demo_weights: Path) -> Iterator[LiveServer]:
    """A whole server that asks for `API_KEY`; its processes may be killed, they come back."""
    folder = tmp_path_factory.mktemp("guarded")
    with live_server(folder, demo_weights, api_keys=f"{API_KEY},another", heartbeat_ttl_s="4") as server:
        server.wait_until_ready()
        yield server
