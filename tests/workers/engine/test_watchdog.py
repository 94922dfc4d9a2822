"""A computation that exceeds its deadline ends its process."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from workers.engine.watchdog import EXIT_STATUS, Watchdog

HANGS = {
    "in Python": "while True: pass",
    "asleep": "time.sleep(60)",
    "in a call that never lets go of the interpreter": "ctypes.PyDLL(None).sleep(60)",
}


@pytest.mark.parametrize("hang", HANGS)
def test_a_process_that_hangs_is_ended(hang: str) -> None:
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
    assert b"most recent call first" in log, "where it hung is told"
    if process.returncode == EXIT_STATUS:
        assert b"request r1 exceeds its deadline" in log


def test_who_comes_back_in_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """… though others that began before are still watched, and the alarm of each stands a while longer."""
    monkeypatch.setattr("workers.engine.watchdog._CHECK_EVERY_S", 0.1)
    watchdog = Watchdog()
    watchdog.start()
    with watchdog.ends_process_after(30, "slow"):
        for _ in range(3):
            with watchdog.ends_process_after(0.2, "quick"):
                pass
        time.sleep(1.5)  # past every one of their times, and the native alarms behind them
    watchdog.stop()
