"""The janitor is run at its times, by one process at once."""

from __future__ import annotations

import time
from pathlib import Path

from server.context import build_gateway
from server.housekeeping import tidy_alone
from tests.server.conftest import MakeSettings
from tests.server.support import PlayedWorker, serving


def test_a_dead_workers_request_is_queued_again(make_settings: MakeSettings) -> None:
    settings = make_settings(janitor_interval_s=0.05)
    worker = PlayedWorker(settings)
    with serving(settings) as client:
        request_id = client.submit()
        worker.take("ic-light")
        worker.start(request_id)  # and never announces itself: it is dead
        assert worker.take("ic-light") == request_id
        assert client.get(f"/v2/requests/{request_id}/status").json()["status"] == "QUEUED"


def test_a_bad_round_does_not_end_cleaning(make_settings: MakeSettings) -> None:
    settings = make_settings(janitor_interval_s=0.05)
    worker = PlayedWorker(settings)
    with serving(settings) as client:
        damaged = client.submit()
        worker.redis.hset(f"facelight:request:{damaged}", "params", "not json")
        worker.take("ic-light")
        time.sleep(0.2)  # rounds that fail on the damaged record
        worker.records.forget(damaged)
        request_id = client.submit()
        worker.take("ic-light")
        worker.start(request_id)
        assert worker.take("ic-light") == request_id


def test_one_process_at_a_time(make_settings: MakeSettings, tmp_path: Path) -> None:
    gateway = build_gateway(make_settings())
    with gateway.redis.lock("facelight:janitor", timeout=60):
        assert not tidy_alone(gateway)
    assert tidy_alone(gateway)
    assert tidy_alone(gateway), "the lock is given back"
    gateway.redis.close()
