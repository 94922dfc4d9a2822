"""Processes of a cluster: started, signalled by their number, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.faults.processes.waiting import until

_REPOSITORY = Path(__file__).parents[3]
_RESTART_S = 0.5
"""What a supervisor waits before it starts a process again."""


class Member:
    """One process, or rather one after another of the same kind."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.exits: list[int] = []
        """Exit statuses of the processes that have ended; minus the signal's number if one did it."""
        self.environment = {**_clean_environment(), **environment}
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Number of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether that process has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def rss_mb(self) -> float:
        """Memory that it holds now, in MiB."""
        return float(psutil.Process(self.pid).memory_info().rss) / 1024**2

    def start(self) -> None:
        """Start a process; the one before must have ended."""
        assert not self.alive
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=_REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 60) -> int:
        """Wait for its end; returns the exit status."""
        assert self._process is not None
        status = self._process.wait(timeout_s)
        self.exits.append(status)
        return status

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal that ends it, and wait."""
        self.send(number)
        return self.wait()

    def end(self) -> None:
        """End the process, whatever state it is in."""
        if self.alive:
            self.send(signal.SIGCONT)
            self.kill()


class Keeper(threading.Thread):
    """Starts members again when they have ended, as a supervisor does, for as long as the block lasts."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(name="keeper", daemon=True)
        self._members = members
        self._ended = threading.Event()

    def __enter__(self) -> Keeper:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Look after the members until the block ends."""
        died: dict[Member, float] = {}
        while not self._ended.wait(0.05):
            for member in self._members:
                if member.alive:
                    died.pop(member, None)
                elif time.monotonic() - died.setdefault(member, time.monotonic()) >= _RESTART_S:
                    member.wait()
                    member.start()


def ends_of(members: Sequence[Member], timeout_s: float = 60) -> dict[int, float]:
    """Wait until the processes that run now have ended by themselves; returns when each did, by its number."""
    running = {member.pid: psutil.Process(member.pid) for member in members}
    ends: dict[int, float] = {}

    def all_ended() -> bool:
        ends.update({pid: time.monotonic() for pid in running if pid not in ends and not _is_running(running[pid])})
        return len(ends) == len(running)

    until(all_ended, f"the end of {', '.join(member.name for member in members)}", timeout_s, pause_s=0.01)
    return ends


def _is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FACELIGHT_")}
