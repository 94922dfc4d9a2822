"""Debian's Prometheus beside a live server: every panel of the board has data, and alerts fire and clear."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from tests.contract.test_demo import quick
from tests.faults.processes.waiting import until
from tests.live_server import LiveServer, free_port, live_server
from tests.metrics.test_configuration import MONITORING, PANELS
from tests.metrics.tools import program

pytestmark = pytest.mark.slow

WITHOUT_GPU = "facelight_gpu_memory_bytes"
SCRAPE_S = 4
"""A gateway that waits in vain for Redis must be able to say so within it."""


@dataclass(frozen=True)
class Prometheus:
    """One that scrapes every few seconds."""

    url: str
    has_redis: bool

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Labels and value of each series, those that are no number left out."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, trust_env=False).json()
        assert answer["status"] == "success", answer
        return [each for each in answer["data"]["result"] if each["value"][1] != "NaN"]

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        alerts = httpx.get(f"{self.url}/api/v1/alerts", trust_env=False).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


@contextmanager
def running(*command: object) -> Iterator[None]:
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def prometheus(folder: Path, gateway: int, redis_socket: Path) -> Iterator[Prometheus]:
    """The shipped rules with a second in the place of every minute, the jobs of the shipped configuration."""
    folder.mkdir()
    rules = (MONITORING / "alerts.yml").read_text()
    (folder / "alerts.yml").write_text(re.sub(r"for: (\d+)m", r"for: \1s", rules))
    exporter, port = free_port(), free_port()
    has_redis = shutil.which("prometheus-redis-exporter") is not None
    targets = {"gateway": gateway, "worker": gateway + 1, "redis": exporter}
    jobs = [
        {"job_name": f"facelight-{name}", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for name, port in targets.items()
    ]
    shipped = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert [job["job_name"] for job in jobs] == [job["job_name"] for job in shipped["scrape_configs"]]
    settings = {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s", "evaluation_interval": "1s"}
    configuration = {"global": settings, "rule_files": ["alerts.yml"], "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    listening = f"-web.listen-address=127.0.0.1:{exporter}"
    redis = ("prometheus-redis-exporter", f"-redis.addr=unix://{redis_socket}", listening)
    options = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
    }
    command = [program("prometheus"), *(f"--{name}={value}" for name, value in options.items())]
    with running(*(redis if has_redis else ("sleep", "infinity"))), running(*command):
        found = Prometheus(f"http://127.0.0.1:{port}", has_redis)
        until(lambda: _answers(found.url), "Prometheus to start", 30)
        yield found


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, demo_weights: Path) -> Iterator[tuple[LiveServer, Prometheus]]:
    """A server as `make run` starts it, with metrics, after the sample requests of `make demo`."""
    from cli.demo import run

    program("prometheus")
    folder, port = tmp_path_factory.mktemp("watched"), free_port()
    with live_server(folder, demo_weights, metrics_port=str(port), heartbeat_ttl_s="4") as server:
        server.wait_until_ready()
        with prometheus(folder / "prometheus", port, folder / "redis" / "socket") as watcher:
            time.sleep(2.5 * SCRAPE_S)  # the first scrapes, so that what follows is an increase
            list(run(server.url, None, folder / "out", quick()))
            until(lambda: watcher.query("facelight_images_total > 0"), "a scrape of it all", 30)
            time.sleep(1.5 * SCRAPE_S)
            yield server, watcher


def test_every_panel_has_data(watched: tuple[LiveServer, Prometheus]) -> None:
    _, watcher = watched
    for panel in PANELS:
        found = {target["expr"]: watcher.query(target["expr"]) for target in panel["targets"]}
        expected = [one for one in found if WITHOUT_GPU not in one and (watcher.has_redis or "redis_memory" not in one)]
        assert all(found[one] for one in expected), (panel["title"], found)


def test_figures_are_those_of_the_demo(watched: tuple[LiveServer, Prometheus]) -> None:
    _, watcher = watched

    def value(expression: str) -> float:
        (found,) = watcher.query(expression)
        return float(found["value"][1])

    samples = quick()
    assert value('sum(facelight_requests_total{outcome="completed"})') == len(samples)
    assert value("sum(facelight_images_total)") == len(samples)
    assert value("sum(facelight_requests_accepted_total)") == len(samples)
    stages = {found["metric"]["stage"] for found in watcher.query("facelight_stage_seconds_count > 0")}
    assert {"prepare", "text", "encode", "denoise", "decode", "publish"} <= stages
    whole = value("sum(facelight_request_seconds_sum)")
    denoise = value('sum(facelight_stage_seconds_sum{stage="denoise"})')
    assert 0 < denoise < value("sum(facelight_gpu_seconds_total)") < whole
    assert not {alert for alert in watcher.firing() if alert != "StoreNearlyFull"}


def scripted(watcher: Prometheus, alert: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
    """An outage from `begin` to `end`: the alert fires in it, and is silent after it."""
    assert alert not in watcher.firing()
    begin()
    try:
        until(lambda: alert in watcher.firing(), f"{alert} to fire", 60, pause_s=0.3)
    finally:
        end()
    until(lambda: alert not in watcher.firing(), f"{alert} to clear", 120, pause_s=0.3)


def test_alerts_fire_and_clear(watched: tuple[LiveServer, Prometheus]) -> None:
    """A worker that hangs while a request waits; a Redis that hangs; a gateway that hangs."""
    server, watcher = watched
    processes = server.children()
    sample = quick()[1]

    def hang() -> None:
        processes["worker"].send_signal(signal.SIGSTOP)
        picture = {sample.image_field: "data:image/png;base64," + _tiny_picture(), **sample.params}
        assert httpx.post(f"{server.url}/v2/{sample.slug}", json=picture, trust_env=False).status_code == 200

    scripted(watcher, "NoWorkerForModel", hang, lambda: processes["worker"].send_signal(signal.SIGCONT))
    server.wait_until_ready()
    for alert, name in (("QueueUnreadable", "redis"), ("NoGateway", "gateway")):
        stopped = processes[name]
        scripted(
            watcher,
            alert,
            lambda stopped=stopped: stopped.send_signal(signal.SIGSTOP),
            lambda stopped=stopped: stopped.send_signal(signal.SIGCONT),
        )


def _tiny_picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 120, 40)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
