"""Workers that differ share one Redis, for real: whatever is sent is served, each by one that can."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from skimage import data

from server.settings import GatewaySettings
from tests.server.support import Client, serving
from workers.state.connection import connect
from workers.state.record import Record, Status
from workers.state.records import Records
from workers.state.registry import ModelState, WorkerRegistry, WorkerReport

BOTH = "pulid-lightning,ic-light"
REQUESTS = 20
Serves = Callable[[str, str], bool]


def data_uri(pixels: Any) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


FACE, SUBJECT = data_uri(data.astronaut()), data_uri(data.chelsea()[::2, ::2])
LIGHT = {"subject_image": SUBJECT, "prompt": "x", "width": 256, "height": 256, "highres_scale": 1, "steps": 1}
PORTRAIT = {"face_image": FACE, "prompt": "x", "width": 256, "height": 256}
MIXED = [
    ("ic-light", LIGHT),
    ("pulid-lightning", PORTRAIT),
    ("ic-light", LIGHT | {"background_image": SUBJECT}),
    ("pulid-lightning", PORTRAIT | {"checkpoint_model": "artistic"}),
    ("pulid-lightning", PORTRAIT | {"checkpoint_model": "realistic"}),
]


@contextmanager
def worker(settings: GatewaySettings, weights: Path, log: Path, **limits: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process; `limits` are settings without their prefix."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FACELIGHT_")} | {
        "FACELIGHT_REDIS_URL": settings.redis_url,
        "FACELIGHT_DATA_DIR": str(settings.data_dir),
        "FACELIGHT_WEIGHTS_DIR": str(weights),
        "FACELIGHT_DEVICE": "cpu",
        **{f"FACELIGHT_{name.upper()}": value for name, value in limits.items()},
    }
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "workers"], env=environment, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def wait_until_all_serve(registry: WorkerRegistry, *processes: subprocess.Popen[bytes]) -> list[WorkerReport]:
    """The workers' reports, in the order of their processes, once none of them is loading any more."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        found = registry.live_workers()
        if len(found) == len(processes) and all(
            report.state is ModelState.READY for one in found for report in one.models.values()
        ):
            by_pid = {int(one.name.split("-")[-2]): one for one in found}
            return [by_pid[process.pid] for process in processes]
        time.sleep(0.1)
    raise AssertionError("the workers did not get ready")


def wait_for(records: Records, request_ids: list[str]) -> list[Record]:
    """The records of all requests, once each has ended."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = [record for request_id in request_ids if (record := records.get(request_id)) is not None]
        if len(found) == len(request_ids) and all(record.status.is_final for record in found):
            return found
        time.sleep(0.1)
    raise AssertionError("the requests did not end")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "can_serve"),
    [
        ({"models": "ic-light"}, lambda slug, variant: slug == "ic-light"),
        ({"models": BOTH, "checkpoints": "default"}, lambda slug, variant: variant not in ("artistic", "realistic")),
    ],
    ids=["one model", "one checkpoint"],
)
def test_no_worker_claims_what_it_cannot_serve(
    redis_url: str, demo_weights: Path, tmp_path: Path, limits: dict[str, str], can_serve: Serves
) -> None:
    settings = GatewaySettings(redis_url=redis_url, data_dir=tmp_path)
    redis = connect(redis_url)
    records, registry = Records(redis, 3600, 3600), WorkerRegistry(redis, settings.heartbeat_ttl_s)
    with (
        serving(settings) as client,
        worker(settings, demo_weights, tmp_path / "limited.log", **limits) as limited_process,
        worker(settings, demo_weights, tmp_path / "whole.log") as whole_process,
    ):
        limited, whole = wait_until_all_serve(registry, limited_process, whole_process)
        sent = [submit(client, *MIXED[number % len(MIXED)]) for number in range(REQUESTS)]
        ended = wait_for(records, sent)
    assert [record.error for record in ended if record.status is not Status.COMPLETED] == []
    assert {record.worker for record in ended} == {limited.name, whole.name}
    assert all(can_serve(record.slug, record.variant) for record in ended if record.worker == limited.name)


def submit(client: Client, slug: str, body: dict[str, Any]) -> str:
    answer = client.post(f"/v2/{slug}", json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    request_id: str = answer.json()["request_id"]
    return request_id
