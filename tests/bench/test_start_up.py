"""Whether the measurement of loading runs from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_narrow_networks_are_loaded_both_ways(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "bench.start_up", "--reduced", "--rounds", "1")
    command += ("--folder", str(tmp_path / "files"), "--out", str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("start-up-reduced-*.json")
    record = json.loads(result.read_text())
    assert record["complete"]
    values = {row["name"]: row["value"] for row in record["rows"]}
    for model in ("sdxl", "ic-light"):
        for cache in ("cold", "warm"):
            assert values[f"{model}, {cache}: wall_s, ours / diffusers"] > 0
    assert 0.5 < values["a further checkpoint in host memory: anonymous memory / its UNet's bytes"] < 3
    assert not (tmp_path / "files").exists(), "the files are deleted"
