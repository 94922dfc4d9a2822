"""A gateway process that is told to end: says so first, answers what it has accepted, and goes in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from server.settings import GatewaySettings
from tests.live_server import free_port
from tests.server.conftest import MakeSettings
from tests.server.support import FakeWorker, body_for
from workers.state.registry import ModelReport, ModelState

REPOSITORY = Path(__file__).parents[3]


@contextmanager
def gateway(
    settings: GatewaySettings, port: int | None = None, **more: object
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a process with these settings; yields it and its URL. It must end by itself, or be told to."""
    port = port or free_port()
    fields = {"redis_url": settings.redis_url, "data_dir": settings.data_dir, "port": port, **more}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FACELIGHT_")}
    environment |= {f"FACELIGHT_{name.upper()}": str(value) for name, value in fields.items()}
    process = subprocess.Popen([sys.executable, "-m", "server"], cwd=REPOSITORY, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        while not answers(url):
            assert process.poll() is None
            time.sleep(0.05)
        yield process, url
    finally:
        process.kill()
        process.wait(10)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False


def test_it_says_so_before_it_goes(make_settings: MakeSettings) -> None:
    settings = make_settings()
    FakeWorker(settings).heartbeat(ic_light=ModelReport(ModelState.READY, "demo", variants=("foreground",)))
    with gateway(settings, drain_delay_s=1.5) as (process, url), httpx.Client(base_url=url) as kept:
        assert "connection" not in kept.get("/health/live").headers
        assert kept.get("/health/ready").status_code == 200
        process.send_signal(signal.SIGTERM)
        while not (ready := kept.get("/health/ready")).json()["draining"]:
            time.sleep(0.01)
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert ready.headers["connection"] == "close"
        assert kept.get("/health/live").status_code == 200
        accepted = kept.post("/v2/ic-light", json=body_for("ic-light"))
        assert (accepted.status_code, accepted.headers["connection"]) == (200, "close")
        assert process.wait(10) == 0
        assert not answers(url)


def test_whatever_is_accepted_is_answered(make_settings: MakeSettings) -> None:
    """Many callers until nobody listens: each call is answered, or never connected."""
    settings = make_settings()
    failed, codes, ended = list[str](), list[int](), threading.Event()

    def call(url: str) -> None:
        while not ended.is_set():
            try:
                codes.append(httpx.post(f"{url}/v2/ic-light", json=body_for("ic-light"), timeout=20).status_code)
            except httpx.ConnectError:
                return
            except httpx.TransportError as error:
                failed.append(repr(error))

    with gateway(settings, drain_delay_s=0.5) as (process, url), ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, url) for _ in range(8)]
        while len(codes) < 20:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        ended.set()
        for done in calls:
            done.result(20)
    assert set(codes) == {200}
    assert not failed
    assert FakeWorker(settings).records.depth("ic-light") == len(codes)


def test_those_who_wait_get_their_picture(make_settings: MakeSettings) -> None:
    settings = make_settings()
    worker = FakeWorker(settings)
    with gateway(settings, drain_delay_s=0.2) as (process, url), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(httpx.post, f"{url}/v1/ic-light", json=body_for("ic-light"), timeout=20)
        request_id = worker.await_request("ic-light")
        process.send_signal(signal.SIGTERM)
        while answers(url):
            time.sleep(0.05)
        worker.complete(request_id)
        assert waiting.result(20).status_code == 200
        assert process.wait(10) == 0


def test_nobody_waits_for_ever(make_settings: MakeSettings) -> None:
    settings = make_settings()
    worker = FakeWorker(settings)
    with gateway(settings, drain_delay_s=0, drain_timeout_s=1) as (process, url), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(httpx.post, f"{url}/v1/ic-light", json=body_for("ic-light"), timeout=20)
        request_id = worker.await_request("ic-light")
        process.send_signal(signal.SIGTERM)
        answer = waiting.result(20)
        assert (answer.status_code, answer.json()["request_id"]) == (504, request_id)
        assert process.wait(10) == 0
    assert not worker.record(request_id).status.is_final, "the request goes on"


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGINT], pytest.param([signal.SIGTERM] * 2, marks=pytest.mark.slow)],
    ids=["Ctrl-C", "told twice"],
)
def test_in_a_hurry_it_does_not_wait(make_settings: MakeSettings, signals: list[signal.Signals]) -> None:
    with gateway(make_settings(), drain_delay_s=3600) as (process, url):
        for number in signals:
            process.send_signal(number)
            time.sleep(0.3)
        assert process.wait(20) == 0
        assert not answers(url)
