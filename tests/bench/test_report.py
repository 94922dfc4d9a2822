"""The way in which all measurements are told, down to runs that are cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from bench.machine import command_line
from bench.report import Interrupted, Record, Report, Row, meets, table


def read(path: Path) -> Record:
    return Record.model_validate_json(path.read_text())


def test_a_finished_run_leaves_its_rows_with_versions_and_command(tmp_path: Path, capsys):
    with Report("sum", "NVIDIA H200", folder=tmp_path, versions={"redis-server": "7.2"}) as report:
        report.add("apples", 3, "pieces", "<= 2", "too many")
        report.add("pears", 1.5, "pieces")
    record = read(report.path)
    assert report.path.name == f"sum-nvidia-h200-{record.started:%Y-%m-%d}.json"
    assert record.complete and record.finished is not None and record.finished >= record.started
    assert [(row.name, row.value, row.goal, row.reached) for row in record.rows] == [
        ("apples", 3, "<= 2", False),
        ("pears", 1.5, None, None),
    ]
    assert record.machine.gpu == "NVIDIA H200" and record.machine.cores >= 1
    assert record.versions["redis-server"] == "7.2" and {"python", "torch", "redis"} <= record.versions.keys()
    assert record.command[0] == "python"
    printed = capsys.readouterr().out
    assert "| apples | 3 | pieces | <= 2 MISSED | too many |" in printed
    assert table(record) in printed


def test_every_row_is_on_disk_at_once_and_unfinished(tmp_path: Path):
    with Report("sum", folder=tmp_path) as report:
        report.add("apples", 3, "pieces")
        record = read(report.path)
        assert len(record.rows) == 1 and not record.complete and record.finished is None
        assert report.value("apples") == 3 and report.value("plums") is None


def test_what_could_not_be_measured_misses_its_goal(tmp_path: Path):
    with Report("sum", folder=tmp_path) as report:
        assert report.add("plums", None, "pieces", ">= 1", "no tree").reached is False
    assert read(report.path).rows[0].value is None


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [(1.005, "<= 1.005", True), (1.006, "<= 1.005", False), (0, "== 0", True), (3, ">= 3", True), (3, "> 3", False)],
)
def test_goals(value: float, goal: str, met: bool):
    assert meets(value, goal) is met


@pytest.mark.parametrize("goal", ["", "1", "<=1", "about 3", "<= 1 ms"])
def test_what_is_no_goal_is_refused(goal: str, tmp_path: Path):
    with Report("sum", folder=tmp_path) as report, pytest.raises(ValueError, match="is no goal"):
        report.add("apples", 1, "pieces", goal)
    assert read(report.path).rows == []


def test_an_error_passes_and_the_file_says_so(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), Report("sum", folder=tmp_path) as report:
        report.add("apples", 3, "pieces")
        report.add("share", 1 / 0, "")
    record = read(report.path)
    assert len(record.rows) == 1 and not record.complete and record.finished is not None


def test_the_end_of_the_time_ends_the_run(tmp_path: Path):
    before = signal.getsignal(signal.SIGTERM)
    with Report("sum", folder=tmp_path, budget_s=1) as report:
        report.add("apples", 3, "pieces")
        signal.pause()
        report.add("pears", 3, "pieces")
    record = read(report.path)
    assert [row.name for row in record.rows] == ["apples"] and not record.complete
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGTERM) is before


def test_no_handler_of_errors_catches_an_interruption():
    assert not issubclass(Interrupted, Exception)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_what_there_is(number: signal.Signals, tmp_path: Path):
    # A shell that starts tests in the background has them ignore SIGINT, and with them all that they start.
    program = (
        "import signal, sys\nfrom pathlib import Path\nfrom bench.report import Report\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with Report('sum', folder=Path(sys.argv[1])) as report:\n"
        "    report.add('apples', 3, 'pieces')\n    signal.pause()\n"
    )
    argv = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            assert process.stdout is not None and process.stdout.readline().startswith("apples")
            process.send_signal(number)
            assert "NOT complete" in process.stdout.read()
            assert process.wait() == 0
        finally:
            process.kill()
    (path,) = tmp_path.glob("*.json")
    assert not read(path).complete and len(read(path).rows) == 1


def test_files_of_another_form_are_refused(tmp_path: Path):
    with Report("sum", folder=tmp_path) as report:
        report.add("apples", 3, "pieces")
    whole = json.loads(report.path.read_text())
    for broken in (
        whole | {"schema_version": 2},
        whole | {"extra": 1},
        {k: v for k, v in whole.items() if k != "rows"} | {"rows": [{"name": "x"}]},
    ):
        with pytest.raises(ValidationError):
            Record.model_validate(broken)


def test_results_with_the_names_of_old_are_read(tmp_path: Path):
    with Report("sum", folder=tmp_path) as report:
        for name in ("request, R0 / ours", "request, R1", "R2 is ready after", "request, floor", "R10"):
            report.record.rows.append(Row.model_construct(name=name, value=1.0, unit="ms"))
    names = [row.name for row in read(report.path).rows]
    assert names[:2] == ["request, reference / ours", "request, diffusers"]
    assert names[2:] == ["diffusers_compiled is ready after", "request, roofline", "R10"]


def test_the_command_names_no_place_of_this_machine():
    script = str(Path(__file__).resolve().parents[2] / "bench" / "gpu.py")
    assert command_line(["/opt/venv/bin/python3", script, "--only", "a"]) == ["python", "bench/gpu.py", "--only", "a"]
