"""Debian's Prometheus beside a server: scrapes it, evaluates the shipped rules, and is asked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.deploy.files import REPOSITORY
from tests.faults.processes.waiting import until
from tests.live_server import free_port
from tests.metrics.tools import program

MONITORING = REPOSITORY / "deploy" / "monitoring"
BOARD: dict[str, Any] = json.loads((MONITORING / "grafana" / "facelight.json").read_text(encoding="utf-8"))
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

    def history(self, expression: str, began: float, ended: float, step_s: float) -> list[dict[str, Any]]:
        """Labels and (time, value) of each series, from one time to another, in seconds since the epoch."""
        span = {"query": expression, "start": str(began), "end": str(ended), "step": str(step_s)}
        answer = httpx.get(f"{self.url}/api/v1/query_range", params=span, trust_env=False).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

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
