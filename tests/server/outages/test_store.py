"""The result store away or full: the answer says to come back, and nothing is accepted that could not be served."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from tests.live_server import free_port
from tests.server.conftest import MakeSettings
from tests.server.support import DATA_URI, SLUGS, Client, FakeWorker, body_for, serving
from tests.workers.state.support import unfinished
from workers.store import s3

NAME = "a" * 32 + "-4102444800.png"


def unavailable(answer: Any) -> None:
    assert answer.status_code == 503, answer.text
    assert set(answer.json()) == {"error"}
    assert int(answer.headers["retry-after"]) > 0


def refuses_what_needs_the_store(client: Client) -> None:
    for slug in SLUGS:
        unavailable(client.post(f"/v2/{slug}", json=body_for(slug)))
    unavailable(client.post("/upload-asset", json={"data_urls": [DATA_URI]}))


def test_s3_away(make_settings: MakeSettings, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    once = s3._CONFIG.merge(Config(retries={"total_max_attempts": 1}))
    monkeypatch.setattr(s3, "_CONFIG", once)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    settings = make_settings(store=f"s3://{bucket}", janitor_interval_s=0.05)
    with serving(settings) as client:
        refuses_what_needs_the_store(client)
        unavailable(client.get(f"/files/{NAME}"))
        assert client.head(f"/files/{NAME}").status_code == 503
        assert client.get("/files/no-name").status_code == 404
        assert client.get("/health/live").status_code == 200
    assert unfinished(FakeWorker(settings).redis) == []


def test_a_full_disk(make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    settings = make_settings()
    with serving(settings) as client:
        monkeypatch.setattr("os.fsync", full)
        refuses_what_needs_the_store(client)
        monkeypatch.undo()
        assert client.submit()
    worker = FakeWorker(settings)
    assert len(unfinished(worker.redis)) == 1, "what was queued before the disk said so has been cancelled"
    assert len([path for path in (tmp_path / "store").rglob("*") if path.is_file()]) == 1
