"""What is left of a worker that was killed while it loaded, and what its successor and its supervisor make of it."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
from asyncio import run, sleep, wait_for
from pathlib import Path

import pytest

from cli import process
from cli.process import SupervisedProcess
from workers.engine.loading_mark import FOLDER, LoadingMark, model_being_loaded
from workers.engine.model_loader import LoadedModels
from workers.settings import WorkerSettings
from workers.state.registry import ModelReport

WORKER = """
import sys, time
from pathlib import Path
from workers.engine.loading_mark import LoadingMark
mark = LoadingMark(Path(sys.argv[1]))
mark.loads("pulid-lightning")
print("loading", flush=True)
time.sleep(60)
"""
"""Loads for as long as it lives."""


def killed_worker(folder: Path) -> int:
    """The process id of a worker that was killed while it loaded."""
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(folder)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"loading\n"
    assert model_being_loaded(folder, worker.pid) == "", "it still runs"
    worker.kill()
    worker.wait()
    worker.stdout.close()
    return worker.pid


def test_a_killed_worker_leaves_what_it_loaded_and_its_successors_count(tmp_path: Path) -> None:
    pid = killed_worker(tmp_path)
    assert model_being_loaded(tmp_path, pid) == "pulid-lightning"
    assert killed_worker(tmp_path) != pid
    third = LoadingMark(tmp_path)
    assert third.killed == {"pulid-lightning": 2}
    beside = LoadingMark(tmp_path / "..")  # nothing was left there
    assert beside.killed == {}
    beside.remove()
    third.loads("pulid-lightning")
    third.has_loaded("pulid-lightning")
    third.remove()
    assert LoadingMark(tmp_path).killed == {}
    assert model_being_loaded(tmp_path, pid) == "", "its mark was taken over"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model": 1}'])
def test_a_damaged_mark_counts_for_nothing(tmp_path: Path, content: str) -> None:
    pid = killed_worker(tmp_path)
    (mark,) = tmp_path.iterdir()
    mark.write_text(content)
    assert model_being_loaded(tmp_path, pid) == ""
    assert LoadingMark(tmp_path).killed == {}


def test_where_nothing_can_be_written_there_is_no_mark(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    mark = LoadingMark(tmp_path / "file" / "folder")
    mark.loads("ic-light")
    with pytest.raises(NotADirectoryError):
        next((tmp_path / "file" / "folder").iterdir())


def test_a_worker_says_that_others_were_killed_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_worker(tmp_path / FOLDER)
    models = LoadedModels("w", WorkerSettings(device="cpu", data_dir=tmp_path, models="pulid-lightning"))
    seen: list[ModelReport] = []
    models.load(on_change=lambda: seen.append(models.report().models["pulid-lightning"]))
    assert re.match(r"loading again; the last 1 time\(s\) the worker ended without a word", seen[0].detail)
    assert "no weights were fetched" in seen[-1].detail
    assert not list((tmp_path / FOLDER).iterdir()), "this one came to an end"


@pytest.mark.parametrize(("loading", "pauses"), [("pulid-lightning", [1, 2, 4, 8, 16]), ("", [0.5] * 5)])
def test_who_is_killed_while_loading_is_not_steady_however_long_it_took(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, loading: str, pauses: list[float]
) -> None:
    monkeypatch.setattr(process, "_STEADY_S", 0)
    asked: list[int] = []

    def tell(pid: int) -> str:
        asked.append(pid)
        return loading

    async def no_pause(self: SupervisedProcess, seconds: float) -> None:
        if len(asked) == len(pauses):
            self._stopping.set()
        await sleep(0)

    monkeypatch.setattr(SupervisedProcess, "_pause", no_pause)
    with caplog.at_level(logging.WARNING):
        worker = SupervisedProcess("worker", ("sh", "-c", "kill -9 $$"), {}, stop_timeout_s=5, loading=tell)
        run(wait_for(worker.keep_running(), 60))
    assert len(set(asked)) == len(pauses), "each process is asked about once"
    during = f" while it was loading {loading}" if loading else ""
    expected = [f"worker exited (signal {signal.SIGKILL.name}{during}); restarting it in {it:.1f} s" for it in pauses]
    assert caplog.messages == expected
