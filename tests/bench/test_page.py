"""A short run of `bench.page`: both values are there, and the page is no larger than it may be."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.report import Record


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium is installed (Debian's package `chromium`)")
def test_a_short_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.page", "--scale", "0.1", "--out", str(tmp_path)]
    subprocess.run(command, check=True, timeout=200, capture_output=True)
    (file,) = tmp_path.glob("page-*.json")
    record = Record.model_validate_json(file.read_text())
    assert record.complete
    size, time = record.rows
    assert (size.unit, time.unit) == ("kB", "ms")
    assert size.reached, "the page is larger than it may be"
    assert time.value is not None
    assert time.value > 0
