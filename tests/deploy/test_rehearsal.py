"""The images are built and run, as far as that goes without an engine. Slow, for root, and given a base tree.

`FACELIGHT_REHEARSAL_BASE` names the tree; `FACELIGHT_REHEARSAL_OPTIONS` holds what `tests.deploy.rehearsal` may need
besides to install packages here.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BASE = os.environ.get("FACELIGHT_REHEARSAL_BASE", "")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not BASE or os.getuid() != 0, reason="needs root and FACELIGHT_REHEARSAL_BASE")
def test_the_images_build_and_answer(tmp_path: Path) -> None:
    options = shlex.split(os.environ.get("FACELIGHT_REHEARSAL_OPTIONS", ""))
    command = [sys.executable, "-m", "tests.deploy.rehearsal", BASE, str(tmp_path / "work"), *options]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    for line in ("/health/ready: 200", "gateway: healthy", "worker: healthy", "worker: ended with 0 after SIGTERM"):
        assert line in result.stdout
