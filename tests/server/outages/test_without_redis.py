"""Redis away, full, or lost in the middle of a submission."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

from redis import Redis

from server.dependencies import build_gateway
from server.settings import GatewaySettings
from tests.conftest import wait_for_redis
from tests.redis_server import REDIS_SERVER
from tests.server.conftest import NEVER
from tests.server.routes.test_events import streaming
from tests.server.support import Client, FakeWorker, body_for, serving
from tests.workers.state.support import wakeups_key


@contextmanager
def own_redis() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis that the test may ill-treat: its URL and process."""
    with tempfile.TemporaryDirectory(prefix="facelight-test-") as folder:
        options = ["--port", "0", "--unixsocket", f"{folder}/s", "--save", "", "--loglevel", "warning"]
        process = subprocess.Popen([REDIS_SERVER, *options], cwd=folder)
        try:
            yield f"unix://{folder}/s", process
        finally:
            process.kill()
            process.wait(10)


def _gateway(redis_url: str, folder: Path, janitor_interval_s: float = 0.05) -> GatewaySettings:
    return GatewaySettings(redis_url=redis_url, data_dir=folder, janitor_interval_s=janitor_interval_s)


def _unavailable(answer: Any) -> None:
    assert answer.status_code == 503, answer.text
    assert set(answer.json()) == {"error"}
    assert int(answer.headers["retry-after"]) > 0


def _stored(settings: GatewaySettings) -> list[Path]:
    return [path for path in Path(settings.store_location).rglob("*") if path.is_file()]


def test_away(tmp_path: Path) -> None:
    settings = _gateway(f"unix://{tmp_path}/nobody-listens", tmp_path)
    with serving(settings) as client:
        _unavailable(client.post("/v2/ic-light", json=body_for("ic-light")))
        _unavailable(client.get("/v2/requests/x/status"))
        assert client.get("/health/live").status_code == 200
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert not _stored(settings)


def test_back_again(tmp_path: Path) -> None:
    """A gateway that was started before its Redis serves as soon as that is there."""
    with tempfile.TemporaryDirectory(prefix="facelight-test-") as folder:
        settings = _gateway(f"unix://{folder}/s", tmp_path)
        with serving(settings) as client:
            _unavailable(client.get("/v2/requests/x"))
            process = subprocess.Popen([REDIS_SERVER, "--port", "0", "--unixsocket", f"{folder}/s", "--save", ""])
            try:
                while client.get("/v2/requests/x").status_code == 503:
                    assert process.poll() is None
                client.submit()
            finally:
                process.kill()
                process.wait(10)


def test_full(tmp_path: Path) -> None:
    with own_redis() as (url, _):
        settings = _gateway(url, tmp_path, NEVER)
        with serving(settings) as client:
            finished = _completed(client, FakeWorker(settings))
            Redis.from_url(url).config_set("maxmemory", 1)
            _unavailable(client.post("/v2/ic-light", json=body_for("ic-light")))
            assert client.get(f"/v2/requests/{finished}").status_code == 200, "reading still works"
            assert len(_stored(settings)) == 2, "one input and one picture of the first request"


def test_read_only(tmp_path: Path) -> None:
    """A replica whose first has gone: it can be read, and takes nothing."""
    with own_redis() as (url, _):
        settings = _gateway(url, tmp_path, NEVER)
        with serving(settings) as client:
            finished = _completed(client, FakeWorker(settings))
            Redis.from_url(url).replicaof("127.0.0.1", "1")
            _unavailable(client.post("/v2/ic-light", json=body_for("ic-light")))
            assert client.get(f"/v2/requests/{finished}").status_code == 200
            assert len(_stored(settings)) == 2
            Redis.from_url(url).replicaof("NO", "ONE")
            client.submit()


class _Loading(StreamRequestHandler):
    """A Redis that still reads its file: one can connect to it, and is told so in answer to every command."""

    def handle(self) -> None:
        about = {"server": "redis", "version": "7.4.0", "mode": "standalone", "role": "master"}
        words = [f"${len(word)}\r\n{word}\r\n" for pair in about.items() for word in pair]
        hello = f"%{len(about) + 1}\r\n{''.join(words)}$5\r\nproto\r\n:3\r\n"
        greetings = {b"HELLO": hello.encode(), b"CLIENT": b"+OK\r\n"}
        while line := self.rfile.readline():
            command = [self.rfile.readline() for _ in range(2 * int(line[1:]))][1].strip()
            self.wfile.write(greetings.get(command, b"-LOADING Redis is loading the dataset in memory\r\n"))


def test_loading(tmp_path: Path) -> None:
    with ThreadingTCPServer(("127.0.0.1", 0), _Loading) as redis:
        redis.daemon_threads = True
        threading.Thread(target=redis.serve_forever, args=(0.05,), daemon=True).start()
        settings = _gateway(f"redis://127.0.0.1:{redis.server_address[1]}", tmp_path)
        with serving(settings) as client:
            _unavailable(client.post("/v2/ic-light", json=body_for("ic-light")))
            assert client.get("/health/ready").status_code == 503
        redis.shutdown()
    assert not _stored(settings)


def test_those_who_wait_ride_it_out(tmp_path: Path) -> None:
    """Redis ends in the middle of a v1 call and comes back: the call is answered, for it had been accepted.

    A stream of events goes on, too, and so does a call that waits for the state.
    """
    options = ["--port", "0", "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    with tempfile.TemporaryDirectory(prefix="facelight-test-") as folder, ThreadPoolExecutor(2) as pool:
        command = [REDIS_SERVER, *options, "--unixsocket", f"{folder}/s", "--dir", folder]
        settings = GatewaySettings(redis_url=f"unix://{folder}/s", data_dir=tmp_path, janitor_interval_s=86_400)
        process = subprocess.Popen(command)
        wait_for_redis(settings.redis_url)
        worker = FakeWorker(settings)
        with serving(settings) as client:
            waiting = pool.submit(client.post, "/v1/ic-light", json=body_for("ic-light"))
            request_id = worker.await_request("ic-light")
            polling = pool.submit(client.get, f"/v2/requests/{request_id}/status?wait=60")
            with streaming(client.base_url, request_id) as stream:
                assert stream.event()["data"]["status"] == "QUEUED"
                process.kill()
                process.wait(10)
                _unavailable(client.get(f"/v2/requests/{request_id}"))
                process = subprocess.Popen(command)
                wait_for_redis(settings.redis_url)
                worker.complete(request_id)
                assert stream.rest()[-1]["data"]["status"] == "COMPLETED"
            assert polling.result(20).json()["status"] == "COMPLETED"
            assert waiting.result(20).status_code == 200
        process.kill()
        process.wait(10)


def test_lost_between_record_and_queue(client: Client, worker: FakeWorker, settings: GatewaySettings) -> None:
    """RQ's list is something else: the request is in the queue, no worker can be called until the janitor does."""
    wakeups = wakeups_key("ic-light", "foreground")
    worker.redis.set(wakeups, "not a list")
    client.submit()
    worker.redis.delete(wakeups)
    assert worker.redis.llen(wakeups) == 0
    build_gateway(settings).janitor.run_once()
    assert worker.redis.llen(wakeups) == 1


def _completed(client: Client, worker: FakeWorker) -> str:
    request_id = client.submit()
    worker.complete(request_id)
    return request_id
