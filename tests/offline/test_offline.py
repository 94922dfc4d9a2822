"""With FACELIGHT_OFFLINE=1 and the network taken away, server, documentation page and both endpoints work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")
"""Runs a command alone with a loopback interface that is down. Not every kernel lets everyone do that."""


def can_have_a_namespace() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*NAMESPACE, "true"]).returncode == 0


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of all attempts to leave the machine."""
    return tmp_path_factory.mktemp("attempts") / "log"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, demo_weights: Path, attempts: Path) -> dict[str, Any]:
    """What a whole server answers, cut off by the kernel where it allows that, and by Python in any case."""
    environment = os.environ | {
        "PYTHONPATH": f"{HERE / 'refusing'}:{HERE.parents[1]}",
        "ATTEMPTS_LOG": str(attempts),
        "HF_HUB_OFFLINE": "0",  # the operator's word for the server counts more
    }
    command = [sys.executable, "-m", "tests.offline.session", str(tmp_path_factory.mktemp("offline")), demo_weights]
    alone = NAMESPACE if can_have_a_namespace() else ()
    result = subprocess.run([*alone, *command], env=environment, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr
    answers: dict[str, Any] = json.loads(result.stdout)
    assert not alone or answers["interfaces"] == ["lo"], "the kernel has taken the network away"
    return answers


def test_the_server_is_ready(session: dict[str, Any]) -> None:
    assert session["ready"]["ready"]
    assert all(model["ready"] for model in session["ready"]["models"].values())


def test_the_documentation_page_has_all_it_loads(session: dict[str, Any]) -> None:
    assert len(session["assets"]) == 4
    assert set(session["assets"].values()) == {200}


def test_both_endpoints_draw(session: dict[str, Any]) -> None:
    assert session["pictures"] == {"pulid-lightning": [200, [256, 256]], "ic-light": [200, [384, 384]]}


def test_urls_are_refused_in_words(session: dict[str, Any]) -> None:
    status, sentence = session["elsewhere"]
    assert status == 400
    assert "subject_image: this server works offline" in sentence


def test_no_process_has_even_tried_to_leave(session: dict[str, Any], attempts: Path) -> None:
    lines = attempts.read_text().splitlines()
    assert "tests.offline.session" in lines[0], "the one attempt that the test itself makes is noticed"
    assert lines[1:] == []
