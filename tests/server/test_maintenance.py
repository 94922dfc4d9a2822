"""The janitor is run at its times, by one process at once."""

from __future__ import annotations

import time
from pathlib import Path

from server.dependencies import build_gateway
from server.maintenance import run_once_locked
from tests.server.conftest import MakeSettings
from tests.server.support import FakeWorker, serving
from workers.state.record import Status


def _is_queued_again(worker: FakeWorker, request_id: str, timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while worker.record(request_id).status is not Status.QUEUED and time.monotonic() < deadline:
        time.sleep(0.01)
    return worker.record(request_id).status is Status.QUEUED


def test_a_dead_workers_request_is_queued_again(make_settings: MakeSettings) -> None:
    settings = make_settings(janitor_interval_s=0.05)
    worker = FakeWorker(settings)
    with serving(settings) as client:
        request_id = client.submit()
        worker.start(request_id)  # and never announces itself: it is dead
        assert _is_queued_again(worker, request_id)
        assert client.get(f"/v2/requests/{request_id}/status").json()["status"] == "QUEUED"


def test_a_bad_round_does_not_end_cleaning(make_settings: MakeSettings) -> None:
    settings = make_settings(janitor_interval_s=0.05, heartbeat_ttl_s=2)
    worker = FakeWorker(settings)
    with serving(settings) as client:
        worker.redis.set("facelight:open", "not a set")
        time.sleep(0.2)  # rounds that fail
        worker.redis.delete("facelight:open")
        request_id = client.submit()
        worker.start(request_id)
        assert _is_queued_again(worker, request_id)


def test_one_process_at_a_time(make_settings: MakeSettings, tmp_path: Path) -> None:
    gateway = build_gateway(make_settings())
    with gateway.redis.lock("facelight:janitor", timeout=60):
        assert not run_once_locked(gateway.janitor, gateway.redis)
    assert run_once_locked(gateway.janitor, gateway.redis)
    assert run_once_locked(gateway.janitor, gateway.redis), "the lock is given back"
    gateway.redis.close()
