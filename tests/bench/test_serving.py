"""A short run of all parts on this machine: what is measured makes sense, whatever the machine's speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.load.client import in_turn, percentile
from bench.load.roles import photo, png
from bench.report import Record
from bench.serving import PARTS, main


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The result of a twentieth of a whole run."""
    folder = tmp_path_factory.mktemp("serving")
    command = [sys.executable, "-m", "bench.serving", "--scale", "0.05", "--out", str(folder), "--folder", str(folder)]
    subprocess.run(command, check=True, timeout=280, capture_output=True)
    (file,) = folder.glob("*.json")
    return Record.model_validate_json(file.read_text())


def value(record: Record, name: str) -> float:
    (row,) = [row for row in record.rows if row.name == name]
    assert row.value is not None
    return row.value


@pytest.mark.slow
def test_the_run_is_whole_and_every_value_is_there(record: Record) -> None:
    assert record.complete
    assert record.command[:3] == ["python", "-m", "bench.serving"]
    assert all(row.value is not None and row.value >= 0 for row in record.rows)
    assert len({row.name for row in record.rows}) == len(record.rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "gateway: torch loaded",
        "status, 200 clients: errors",
        "encoding on the GPU thread",
    ],
)
def test_what_must_be_nothing_is(record: Record, name: str) -> None:
    assert value(record, name) == 0


@pytest.mark.slow
def test_every_goal_of_serving_is_told(record: Record) -> None:
    goals = {row.goal for row in record.rows if row.goal}
    assert {"<= 3", ">= 3", "<= 1.5", "<= 110", "<= 40", "== 0", "<= 1.03", "<= 20"} <= goals


@pytest.mark.slow
def test_ratios_are_those_of_their_rows(record: Record) -> None:
    bare = value(record, "bare FastAPI no-op, sockets: p50")
    ours = value(record, "no-op through gateway, queue, worker, sockets: p50")
    assert value(record, "no-op request / bare no-op, sockets") == pytest.approx(ours / bare)
    assert ours > bare


@pytest.mark.slow
def test_encoding_takes_its_time_beside_the_runs(record: Record) -> None:
    assert value(record, "encoding one picture, elsewhere") > 1


@pytest.mark.slow
def test_memory_is_that_of_a_python_process(record: Record) -> None:
    assert 30 < value(record, "gateway: resident memory after start") < 250


@pytest.mark.slow
def test_only_the_part_that_is_asked_for(tmp_path: Path) -> None:
    main(["--only", "start", "--scale", "0.1", "--out", str(tmp_path), "--folder", str(tmp_path)])
    rows: list[dict[str, Any]] = json.loads(next(tmp_path.glob("*.json")).read_text())["rows"]
    assert rows and all(row["name"].startswith("gateway: ") for row in rows)
    assert "overhead" in PARTS


def test_a_photo_of_1024_px_is_2_mb_as_png() -> None:
    assert 1.9e6 < len(png(photo(1024))) < 2.3e6


def test_percentiles_are_values_that_occurred() -> None:
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 0.99)] == [1.0, 2.0, 3.0]


def test_exchanges_are_made_in_turn_and_warm_ups_are_not_counted() -> None:
    made: list[str] = []
    taken = in_turn([lambda: made.append("a"), lambda: made.append("b")], rounds=2, warm_up=1)
    assert made == ["a", "b"] * 3
    assert [len(times) for times in taken] == [2, 2]
