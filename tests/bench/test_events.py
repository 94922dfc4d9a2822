"""A short run of `bench.events`: every value is there, whatever the machine's speed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.report import Record


@pytest.mark.slow
def test_a_short_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.events", "--scale", "0.05", "--out", str(tmp_path)]
    subprocess.run(command, check=True, timeout=200, capture_output=True)
    (file,) = tmp_path.glob("events-*.json")
    record = Record.model_validate_json(file.read_text())
    assert record.complete
    assert [row.unit for row in record.rows] == ["MiB", "x", "x"]
    assert all(row.value is not None and row.value >= 0 for row in record.rows)
