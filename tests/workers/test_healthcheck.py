"""The probe of a worker's container, as the engine runs it: a process with an exit status."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from redis import Redis

from workers.healthcheck import workers_of
from workers.state.registry import ModelReport, ModelState, WorkerRegistry, WorkerReport

HOST = socket.gethostname()


def report(name: str) -> WorkerReport:
    return WorkerReport(name, "cpu", {"ic-light": ModelReport(ModelState.LOADING)})


def probe(redis_url: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FACELIGHT_REDIS_URL": redis_url}
    command = [sys.executable, "-m", "workers.healthcheck"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_living_worker_of_this_host_passes(redis_url: str) -> None:
    WorkerRegistry(Redis.from_url(redis_url), 60).heartbeat(report(f"{HOST}-7-0a1b2c"))
    result = probe(redis_url)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{HOST}-7-0a1b2c: ic-light loading\n"


def test_without_one_the_check_fails(redis_url: str) -> None:
    WorkerRegistry(Redis.from_url(redis_url), 60).heartbeat(report("elsewhere-7-0a1b2c"))
    result = probe(redis_url)
    assert result.returncode == 1
    assert "no live worker" in result.stderr


def test_without_redis_the_probe_fails_in_one_line() -> None:
    result = probe("unix:///nowhere/socket")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["a-7-0a1b2c", "gpu-1-7-0a1b2c", "gpu-7", "xgpu-7-0a1b2c", "gpu-7-0a1b2c-1"])
def test_workers_of_hosts_with_similar_names_do_not_count(name: str) -> None:
    assert workers_of("gpu", [report(name)]) == []
    assert len(workers_of("gpu", [report(name), report("gpu-7-0a1b2c")])) == 1
