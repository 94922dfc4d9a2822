"""A computation that exceeds its deadline ends its process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from workers.engine.watchdog import EXIT_STATUS, Watchdog

HANGS = {
    "in Python": "while True: pass",
    "asleep": "time.sleep(60)",
    "in a call that never releases the GIL": "ctypes.PyDLL(None).sleep(60)",
}


@pytest.mark.parametrize("hang", HANGS)
def test_a_hanging_process_is_ended(hang: str) -> None:
    program = (
        "import ctypes, logging, time\nfrom workers.engine.watchdog import Watchdog\nlogging.basicConfig()\n"
        "dog = Watchdog()\ndog.start()\n"
        "with dog.ends_process_after(100, 'r0'), dog.ends_process_after(0.5, 'r1'):\n"
        f"    print('begun', flush=True)\n    {HANGS[hang]}"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    began = time.monotonic()
    _, log = process.communicate(timeout=30)
    assert 0.3 < time.monotonic() - began < 5
    assert process.returncode in (EXIT_STATUS, 1)
    assert b"most recent call first" in log, "the stack trace shows where it hung"
    if process.returncode == EXIT_STATUS:
        assert b"request r1 exceeds its deadline" in log


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The requests for which a watchdog would have ended this process."""
    ended: list[str] = []
    monkeypatch.setattr("workers.engine.watchdog._CHECK_EVERY_S", 0.1)
    monkeypatch.setattr("workers.engine.watchdog._end_process", ended.append)
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda *_args, **_options: None)
    yield ended


def test_a_block_that_ends_before_its_deadline_does_not_end_the_process(ended: list[str]) -> None:
    """… though another one that began before is still watched, and the timer of each stays set a while longer."""
    watchdog = Watchdog()
    watchdog.start()
    with watchdog.ends_process_after(30, "slow"):
        for _ in range(3):
            with watchdog.ends_process_after(0.2, "quick"):
                pass
        time.sleep(0.6)  # past the deadlines of all that were quick
        assert ended == []
        with watchdog.ends_process_after(0.2, "late"):
            time.sleep(0.6)
    watchdog.stop()
    assert set(ended) == {"late"}
    assert not watchdog.is_alive()
