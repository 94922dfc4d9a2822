"""Processes are killed for real; the server comes back and no accepted request is left hanging."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from models.catalog import MODELS
from tests.live_server import API_KEY, FACELIGHT, LiveServer, live_server

KEY = {"x-api-key": API_KEY}


def submit(server: LiveServer, photo_url: str, **params: object) -> dict:
    body = {"subject_image": f"{photo_url}/cat.png", "prompt": "cat", "width": 256, "height": 256, **params}
    response = httpx.post(f"{server.url}/v2/ic-light", json=body, headers=KEY)
    assert response.status_code == 200, response.text
    return response.json()


def wait_for(reached: Callable[[], bool], what: str, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if reached():
                return
        except (httpx.HTTPError, KeyError):  # the server is on its way back
            pass
        time.sleep(0.1)
    raise AssertionError(f"waited {timeout_s} s in vain for: {what}")


def status_of(job: dict) -> str:
    return httpx.get(job["status_url"], headers=KEY).json()["status"]


def kill(server: LiveServer, name: str) -> psutil.Process:
    child = server.children()[name]
    child.kill()
    child.wait(10)
    return child


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_job(guarded: LiveServer, photo_url: str) -> None:
    guarded.wait_until_ready()
    job = submit(guarded, photo_url, steps=100, number_of_images=2)
    waiting = submit(guarded, photo_url, steps=1)
    wait_for(lambda: status_of(job) == "PROCESSING", "the job to begin")
    kill(guarded, "worker")
    wait_for(lambda: status_of(job) in {"COMPLETED", "FAILED"}, "the killed job to end")
    result = httpx.get(job["response_url"], headers=KEY).json()
    assert result["status"] == "COMPLETED", "it was run again"
    assert len(result["images"]) == 2
    wait_for(lambda: status_of(waiting) == "COMPLETED", "the job behind it")
    assert "worker exited (signal SIGKILL); restarting" in guarded.log.read_text()


@pytest.mark.slow
def test_redis_killed(guarded: LiveServer, photo_url: str) -> None:
    guarded.wait_until_ready()
    job = submit(guarded, photo_url, steps=1)
    wait_for(lambda: status_of(job) == "COMPLETED", "the job")
    time.sleep(1.5)  # Redis writes its log to disk once a second
    kill(guarded, "redis")
    wait_for(lambda: "redis" in guarded.children(), "Redis to come back")
    wait_for(lambda: status_of(job) == "COMPLETED", "the earlier result to be readable")
    guarded.wait_until_ready()
    later = submit(guarded, photo_url, steps=1)
    wait_for(lambda: status_of(later) == "COMPLETED", "a job after the restart")
    assert "redis exited (signal SIGKILL); restarting" in guarded.log.read_text()


@pytest.mark.slow
def test_redis_killed_in_the_middle_of_a_job(guarded: LiveServer, photo_url: str) -> None:
    guarded.wait_until_ready()
    job = submit(guarded, photo_url, steps=60, number_of_images=2)
    wait_for(lambda: status_of(job) == "PROCESSING", "the job to begin")
    time.sleep(1.5)  # Redis writes its log to disk once a second
    kill(guarded, "redis")
    wait_for(lambda: status_of(job) in {"COMPLETED", "FAILED"}, "the job to end")
    assert status_of(job) == "COMPLETED"


def test_the_gateway_killed(guarded: LiveServer, photo_url: str) -> None:
    guarded.wait_until_ready()
    job = submit(guarded, photo_url, steps=1)
    kill(guarded, "gateway")
    wait_for(lambda: status_of(job) == "COMPLETED", "the job submitted before")


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
    ids=lambda number: number.name,
)
def test_a_fresh_server_serves_until_a_signal_ends_every_process(tmp_path: Path, photo_url: str, number: int) -> None:
    with live_server(tmp_path, weights=None) as server:
        server.wait_until_ready()
        assert httpx.get(f"{server.url}/health/ready").json()["weights"] == "demo"
        for model in MODELS.values():
            assert f"{model.slug} runs on demo weights. {model.demo_note}" in server.log.read_text()
        wait_for(lambda: "curl" in server.log.read_text(), "the words of welcome")
        assert "serving demo weights, for demonstration only" in server.log.read_text()
        assert "on demo weights, for demonstration only" in server.log.read_text()
        submit(server, photo_url, steps=1)
        family = psutil.Process(server.process.pid).children(recursive=True)
        assert len(family) == 3
        server.process.send_signal(number)
        assert server.process.wait(60) == 0
        assert [child for child in family if child.is_running()] == []


def test_a_killed_supervisor_takes_its_children_along(tmp_path: Path, demo_weights: Path) -> None:
    with live_server(tmp_path, demo_weights) as server:
        wait_for(lambda: len(server.children()) == 3, "all children to start")
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        _, alive = psutil.wait_procs(family, timeout=60)
        assert alive == []


def test_two_servers_run_side_by_side_but_not_in_one_folder(guarded: LiveServer, tmp_path: Path) -> None:
    folder = guarded.log.parent
    same_folder = {**os.environ, "FACELIGHT_DATA_DIR": str(folder), "FACELIGHT_PORT": "0"}
    refused = subprocess.run([FACELIGHT, "serve"], env=same_folder, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 2
    assert "FACELIGHT_DATA_DIR" in refused.stderr
    port = guarded.url.rpartition(":")[2]
    same_port = {**os.environ, "FACELIGHT_DATA_DIR": str(tmp_path), "FACELIGHT_PORT": port}
    refused = subprocess.run([FACELIGHT, "serve"], env=same_port, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 2
    assert port in refused.stderr


def test_without_keys_only_loopback_is_served(tmp_path: Path) -> None:
    environment = {**os.environ, "FACELIGHT_DATA_DIR": str(tmp_path), "FACELIGHT_HOST": "0.0.0.0"}
    refused = subprocess.run([FACELIGHT, "serve"], env=environment, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 2
    assert "FACELIGHT_API_KEYS" in refused.stderr
