"""Weight files that are not what was installed."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from models.catalog import MODELS
from models.weights.installed import read_installed
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.members import Member
from tests.faults.processes.waiting import until


def flipped(full: bool, finding: Finding) -> None:
    """One byte of one file changed, then a real worker booted."""
    from models.demo.build import build  # loads torch, which the other trials do without

    with cluster(workers=0, models=",".join(MODELS)) as made:
        weights = made.folder / "weights"
        build(weights)
        files = {file.path: role.used_by for role in read_installed(weights).weights for file in role.files}
        for path in random.sample(sorted(files), 6 if full else 1):
            finding.trial(_boot(made, weights, path, set(files[path])))
    finding.figure = "the worker's log names the file; the model is never ready"


def _boot(made: Cluster, weights: Path, path: str, slugs: set[str]) -> str:
    _flip(weights / path)
    environment = {**made.environment, "FACELIGHT_WEIGHTS_DIR": str(weights)}
    worker = Member("real-worker", (sys.executable, "-m", "workers"), environment, made.folder)
    before = worker.log.read_text() if worker.log.exists() else ""
    worker.start()
    try:
        until(lambda: _is_decided(made, worker, slugs), "the worker to have looked at its weights", 120)
        ready = {slug for slug, model in _models(made).items() if model["ready"]}
        told = path in worker.log.read_text().removeprefix(before)
    finally:
        worker.end()
        _flip(weights / path)
        until(lambda: not made.caller.call("GET", "/health/ready").body["workers"], "the worker to be forgotten", 30)
    return unless(told and not ready & slugs, f"{path}: named {told}, ready {ready}")


def _is_decided(made: Cluster, worker: Member, slugs: set[str]) -> bool:
    """Whether the worker has ended, or has loaded all that it can."""
    others = set(MODELS) - slugs
    return not worker.alive or (bool(others) and all(_models(made)[slug]["ready"] for slug in others))


def _models(made: Cluster) -> dict[str, dict[str, bool]]:
    models: dict[str, dict[str, bool]] = made.caller.call("GET", "/health/ready").body["models"]
    return models


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


FAULTS = (
    Fault(
        "F21",
        "a weight file is damaged",
        "one bit flipped in a file of demo weights, a real worker started",
        "is not ready and names the file",
        flipped,
    ),
)
