"""What the chart's pods run: their commands, executed as they stand in the manifests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from tests.deploy.chart import Manifest, containers, one, render, variables
from workers.state.registry import ModelReport, ModelState, WorkerRegistry, WorkerReport

pytestmark = pytest.mark.slow  # helm and schemas are fetched from public registries

STAND_IN = """#!/bin/sh
echo "$*" >> "$CALLS"
[ "$2" != "$FAILS" ]
"""


def weights_job(**values: Manifest) -> Manifest:
    """The container of the job that fetches weights."""
    (container,) = one(render(**values), "Job")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def wait_for_weights(**values: Manifest) -> Manifest:
    """The container that workers wait in."""
    (container,) = one(render(**values), "Deployment", "worker")["spec"]["template"]["spec"]["initContainers"]
    return dict(container)


@pytest.mark.parametrize("fails", ["", "fetch", "verify"])
def test_workers_wait_until_all_weights_are_fetched_and_verified(tmp_path: Path, fails: str) -> None:
    (tmp_path / "facelight").write_text(STAND_IN)
    (tmp_path / "facelight").chmod(0o755)
    job, wait = weights_job(weights={"fetch": {"acceptLicence": True, "use": ["a", "b c"]}}), wait_for_weights()
    fetched, calls = tmp_path / "fetched", tmp_path / "calls"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "FETCHED": str(fetched), "CALLS": str(calls), "FAILS": fails}
    with subprocess.Popen(wait["command"], env=environment) as waiting:
        done = subprocess.run([*job["command"], *job["args"]], env=environment)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.1)
        waiting.kill()
    assert (done.returncode == 0) == fetched.exists() == (fails == "")
    expected = ["weights fetch --accept-licence --use a --use b c", "weights verify"]
    assert calls.read_text().splitlines() == (expected[:1] if fails == "fetch" else expected)
    if not fails:
        assert subprocess.run(wait["command"], env=environment, timeout=4).returncode == 0


def test_the_jobs_arguments_are_those_of_the_command(tmp_path: Path) -> None:
    fetch = {"acceptLicence": True, "commercial": True, "only": "ic-light", "use": ["stable-diffusion-v1.5"]}
    job = weights_job(weights={"fetch": {**fetch, "mirrorClaim": "mirror"}})
    environment = {
        **os.environ,
        "FACELIGHT_DATA_DIR": str(tmp_path),
        "FACELIGHT_WEIGHTS_DIR": str(tmp_path / "weights"),
    }
    command = [sys.executable, "-m", "cli.weights.command", "fetch", *job["args"]]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "The mirror /mirror is not a folder." in result.stderr, result.stderr
    assert job["args"][-2:] == ["--mirror", "/mirror"]
    assert "/mirror" in {mount["mountPath"] for mount in job["volumeMounts"]}


def test_the_job_is_another_one_for_other_weights() -> None:
    """A Job cannot be changed, and workers wait for the one of their release."""

    def identity(**values: Manifest) -> str:
        manifests = render(**values)
        name = str(one(manifests, "Job")["metadata"]["name"])
        (job,) = one(manifests, "Job")["spec"]["template"]["spec"]["containers"]
        assert name.endswith(variables(job)["FETCHED"].rpartition("-")[2])
        assert variables(wait_for_weights(**values))["FETCHED"] == variables(job)["FETCHED"]
        return name

    names = [
        identity(),
        identity(weights={"fetch": {"commercial": True}}),
        identity(workerDefaults={"image": {"tag": "0.2.0"}}),
        identity(settings={"FACELIGHT_OFFLINE": True}),
        identity(weights={"existingClaim": "other"}),
    ]
    assert len(set(names)) == len(names)
    assert identity(settings={"FACELIGHT_LOG_LEVEL": "DEBUG"}) == names[0]


def test_weights_of_ones_own_are_waited_for_by_nobody() -> None:
    values = {"weights": {"existingClaim": "mine", "folder": "", "fetch": {"enabled": False}}}
    manifests = render(**values)
    assert not [each for each in manifests if each["kind"] == "Job"]
    pod = one(manifests, "Deployment", "worker")["spec"]["template"]
    assert [container["name"] for container in containers(pod)] == ["worker"]
    assert variables(pod["spec"]["containers"][0])["FACELIGHT_WEIGHTS_DIR"] == "/weights"


def _is_ready(redis_url: str) -> bool:
    (container,) = one(render(), "Deployment", "worker")["spec"]["template"]["spec"]["containers"]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {**os.environ, "PATH": path, "FACELIGHT_REDIS_URL": redis_url}
    command = container["readinessProbe"]["exec"]["command"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return result.returncode == 0


def test_a_worker_is_ready_when_it_has_loaded_its_models(redis_url: str) -> None:
    """A rollout goes on to the next worker then."""
    registry = WorkerRegistry(Redis.from_url(redis_url), 60)
    loading, ready, failed = (ModelReport(state) for state in (ModelState.LOADING, ModelState.READY, ModelState.FAILED))

    def report(*states: ModelReport) -> None:
        models = dict(zip(("ic-light", "pulid-lightning"), states, strict=True))
        registry.heartbeat(WorkerReport(f"{socket.gethostname()}-1-0a1b2c", "cuda", models))

    assert not _is_ready(redis_url), "nothing is announced"
    for states, expected in (
        ((ready, loading), False),
        ((ready, ready), True),
        ((failed, failed), False),
    ):
        report(*states)
        assert _is_ready(redis_url) == expected, states


def test_no_worker_is_restarted_while_redis_is_away() -> None:
    (container,) = one(render(), "Deployment", "worker")["spec"]["template"]["spec"]["containers"]
    assert "livenessProbe" not in container and "startupProbe" not in container
