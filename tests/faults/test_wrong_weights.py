"""A worker process with weight files that are not what they should be, seen through HTTP."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import pytest

from models.catalog import MODELS
from models.weights.installed import describe, read_installed, write_installed
from tests.live_server import LiveServer, live_server
from tests.models.weights.wrong_files import HTML


@pytest.fixture
def weights(demo_weights: Path, tmp_path: Path) -> Path:
    """A folder of links to the demo weights."""
    for weight in read_installed(demo_weights).weights:
        for file in weight.files:
            (tmp_path / "weights" / file.path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "weights" / file.path).symlink_to(demo_weights / file.path)
    return tmp_path / "weights"


def replace(root: Path, demo: Path, *names: str) -> None:
    """Put a web page in the place of each file, and record what lies there, as an own lock would have it."""
    for name in names:
        (root / name).unlink()
        (root / name).write_bytes(HTML)
    record = [describe(root, w.role, w.path, w.used_by, w.licence) for w in read_installed(demo).weights]
    write_installed(root, record, "demo")


def models(server: LiveServer) -> dict[str, dict[str, object]]:
    """What the gateway says of the models once the worker has looked at all of them."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            found = httpx.get(f"{server.url}/health/ready").json()["models"]
            if all(model["ready"] or str(model["detail"]).startswith("cannot load") for model in found.values()):
                return found
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"the worker did not come to an end with its weights:\n{server.log.read_text()}")


@pytest.mark.slow
def test_a_wrong_file_keeps_its_model_alone_from_serving(
    demo_weights: Path, weights: Path, tmp_path: Path, photo_url: str
) -> None:
    wrong = "face/analysis/scrfd_10g_bnkps.onnx"
    replace(weights, demo_weights, wrong)
    (weights / "sd15/tokenizer/tokenizer.json").write_bytes(HTML)
    with live_server(tmp_path / "data", weights) as server:
        found = models(server)
        assert found["ic-light"]["ready"]
        assert not found["pulid-lightning"]["ready"]
        assert str(found["pulid-lightning"]["detail"]).startswith(f"cannot load: {weights / wrong}: ")
        body = {"subject_image": f"{photo_url}/cat.png", "prompt": "cat", "width": 256, "height": 256, "steps": 1}
        assert httpx.post(f"{server.url}/v1/ic-light", json=body, timeout=60).status_code == 200
        log = server.log.read_text()
        assert f"cannot serve pulid-lightning: cannot load: {weights / wrong}: " in log
        assert "not recorded, and not read: tokenizer/tokenizer.json" in log
        assert "restarting" not in log and "Traceback" not in log


@pytest.mark.slow
def test_a_worker_that_can_load_nothing_is_not_started_again_and_again(
    demo_weights: Path, weights: Path, tmp_path: Path
) -> None:
    wrong = {"pulid-lightning": "face/analysis/glintr100.onnx", "ic-light": "sd15/text_encoder/config.json"}
    replace(weights, demo_weights, *wrong.values())
    with live_server(tmp_path / "data", weights, heartbeat_ttl_s="4") as server:
        found = models(server)
        for slug in MODELS:
            assert not found[slug]["ready"]
            assert str(found[slug]["detail"]).startswith(f"cannot load: {weights / wrong[slug]}: ")
        worker = server.children()["worker"]
        time.sleep(5)  # longer than a worker is remembered that says nothing
        assert server.children()["worker"] == worker and models(server) == found
        answer = httpx.get(f"{server.url}/health/ready")
        assert (answer.status_code, answer.json()["workers"]) == (503, 1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert "restarting" not in server.log.read_text()
