"""One folder and one line of the catalog add a model: it is served, documented and listed as the others are."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.contract.pictures import images_of, pixels, post, size
from tests.live_server import FACELIGHT, LiveServer, live_server, png

REPOSITORY = Path(__file__).parents[2]
PICTURE = png(np.full((48, 64, 3), (0, 100, 250), np.uint8))
NEGATIVE = (200, 155, 5)
"""Of the picture, with at most 200 for white."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with `models/toy` and its line in the catalog."""
    root = tmp_path_factory.mktemp("program")
    for package in ("cli", "server", "workers", "models"):
        shutil.copytree(
            REPOSITORY / package, root / package, copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__")
        )
    (root / "weights.lock").symlink_to(REPOSITORY / "weights.lock")
    shutil.copytree(REPOSITORY / "tests" / "models" / "toy", root / "models" / "toy")
    catalog = root / "models" / "catalog.py"
    text = catalog.read_text()
    catalog.unlink()
    catalog.write_text(text.replace('    "models.ic_light",\n', '    "models.ic_light",\n    "models.toy",\n'))
    return root


@pytest.fixture(scope="module")
def toy(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose worker serves nothing but the third model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(program))
        folder = tmp_path_factory.mktemp("toy")
        with live_server(folder, None, models="toy", toy_white="200") as server:
            server.wait_until_ready("toy")
            yield server


def test_it_is_served_through_v1(toy: LiveServer) -> None:
    (picture,) = images_of(post(toy, "toy", {"image": PICTURE}))
    assert size(picture) == (64, 48)
    assert (pixels(picture) == NEGATIVE).all()


def test_it_is_served_through_v2(toy: LiveServer) -> None:
    submitted = httpx.post(f"{toy.url}/v2/toy", files={"image": PICTURE}, data={"mode": "grey"}).json()
    deadline = time.monotonic() + 60
    while (state := httpx.get(submitted["status_url"]).json())["status"] != "COMPLETED":
        assert state["status"] in ("QUEUED", "PROCESSING"), state
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (picture,) = images_of(httpx.get(submitted["response_url"]))
    assert (pixels(picture) == sum(NEGATIVE) // 3).all()


def test_what_it_does_not_accept_is_refused(toy: LiveServer) -> None:
    answer = httpx.post(f"{toy.url}/v2/toy", files={"image": PICTURE}, data={"mode": "sepia"})
    assert answer.status_code == 400
    assert "mode" in answer.json()["error"]


def test_health_and_the_openapi_page_name_it(toy: LiveServer) -> None:
    models = httpx.get(f"{toy.url}/health/ready").json()["models"]
    assert models["toy"]["variants"] == ["colour", "grey"]
    document = httpx.get(f"{toy.url}/openapi.json").json()
    assert {"/v1/toy", "/v2/toy"} <= document["paths"].keys()
    assert document["components"]["schemas"]["ToyParams"]["properties"].keys() >= {"image", "mode"}
    assert "`toy`" in document["info"]["description"]


def test_the_list_of_weights_names_it(program: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(program), "FACELIGHT_DATA_DIR": str(tmp_path)}
    listed = subprocess.run(
        [FACELIGHT, "weights", "list"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert "toy: no weight files" in listed.stdout, listed.stderr
