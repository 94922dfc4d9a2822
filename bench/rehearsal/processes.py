"""Commands as an operator runs them: what they take, and a limit of memory around them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.process import die_with_parent

FACELIGHT: Final = str(Path(sys.executable).with_name("facelight"))
_V1: Final = Path("/sys/fs/cgroup/memory")
_V2: Final = Path("/sys/fs/cgroup")
_PAUSE_S: Final = 0.2
_PATIENCE_S: Final = 120.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_GB: Final = 1e9
_KILOBYTE: Final = 1024
_PARENT, _USER, _SYSTEM = 1, 11, 12
"""Fields of /proc/PID/stat behind the name: parent, and processor time in ticks."""


@dataclass
class Usage:
    """What one process took: processor seconds, peaks of resident and of anonymous memory, bytes read from disks."""

    command: str
    parent: int = 0
    cpu_s: float = 0.0
    peak: int = 0
    anonymous: int = 0
    read: int = 0


def told(usage: Usage) -> str:
    """What a process took, in words."""
    return (
        f"{usage.cpu_s:.1f} CPU s, peaks {usage.peak / _GB:.2f} GB resident, {usage.anonymous / _GB:.2f} GB anonymous; "
        f"{usage.read / _GB:.2f} GB read from the disk"
    )


@dataclass
class Watched:
    """A running command and what its processes have taken so far, by process id."""

    process: subprocess.Popen[bytes]
    log: Path
    usages: dict[int, Usage] = field(default_factory=dict)

    @property
    def total(self) -> Usage:
        """Of all processes; the peaks are those of the largest one."""
        all_of = list(self.usages.values())
        return Usage(
            command="",
            cpu_s=sum(usage.cpu_s for usage in all_of),
            peak=max((usage.peak for usage in all_of), default=0),
            anonymous=max((usage.anonymous for usage in all_of), default=0),
            read=sum(usage.read for usage in all_of),
        )

    def started(self, words: str) -> list[Usage]:
        """Processes that the command itself started and whose command line holds `words`, in that order."""
        own = [usage for usage in self.usages.values() if usage.parent == self.process.pid]
        return [usage for usage in own if words in usage.command]

    def text(self) -> str:
        """What the command has printed so far."""
        return self.log.read_text(errors="replace")


@contextmanager
def watched(
    command: Sequence[str], log: Path, settings: Mapping[str, str], prefix: Sequence[str] = ()
) -> Iterator[Watched]:
    """Run a command while the block lasts; `settings` are FACELIGHT_* variables, `prefix` comes from `memory_limit`.

    Processes are looked at five times a second: what one takes within the last fifth is not counted.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("FACELIGHT_")}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*prefix, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=own | dict(settings),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    found, stop = Watched(process, log), threading.Event()
    watcher = threading.Thread(target=_watch, args=(found, stop), daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        stop.set()
        watcher.join()


def run(command: Sequence[str], log: Path, settings: Mapping[str, str]) -> tuple[float, Usage]:
    """Run a command to its end; seconds, and what it took. Raises `subprocess.CalledProcessError` if it fails."""
    began = time.monotonic()
    with watched(command, log, settings) as found:
        status = found.process.wait()
    if status:
        raise subprocess.CalledProcessError(status, list(command), found.text())
    return time.monotonic() - began, found.total


@contextmanager
def memory_limit(limit: int) -> Iterator[tuple[str, ...]]:
    """Words before a command that keep it, and all that it starts, below `limit` bytes of memory.

    In a memory cgroup of its own where one can be made, which takes root; else the address space of each process is
    limited, which also counts what is mapped and never touched.
    """
    group = _new_group(limit)
    if group is None:
        yield "/bin/sh", "-c", 'ulimit -v "$0" && exec "$@"', str(limit // _KILOBYTE)
        return
    try:
        # The kernel ends a process of this group first, should the machine run short besides.
        words = 'echo 1000 > /proc/self/oom_score_adj; echo $$ > "$0" && exec "$@"'
        yield "/bin/sh", "-c", words, str(group / "cgroup.procs")
    finally:
        _remove(group)


def kind_of_limit() -> str:
    """How `memory_limit` limits memory here."""
    group = _new_group(1 << 30)
    if group is None:
        return "address space"
    group.rmdir()
    return "memory cgroup"


def _new_group(limit: int) -> Path | None:
    lines = Path("/proc/self/cgroup").read_text()
    own = re.search(r"^\d+:memory:(.*)$", lines, re.MULTILINE)
    if own:
        parent, name = _V1 / own[1].lstrip("/"), "memory.limit_in_bytes"
    else:
        # Beside this process's own group: a group of version 2 has either processes or groups in it.
        own = re.search(r"^0::(.*)$", lines, re.MULTILINE)
        parent, name = (_V2 / (own[1].lstrip("/") if own else "")).parent, "memory.max"
    group = parent / f"facelight-rehearsal-{os.getpid()}-{time.monotonic_ns()}"
    try:
        group.mkdir()
    except OSError:
        return None
    try:
        (group / name).write_text(str(limit))
    except OSError:  # the controller is not on for this part of the tree
        group.rmdir()
        return None
    return group


def _remove(group: Path) -> None:
    """Remove a group as soon as its last process has ended."""
    deadline = time.monotonic() + _PATIENCE_S
    while (group / "cgroup.procs").read_text().strip() and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
    group.rmdir()


def _watch(found: Watched, stop: threading.Event) -> None:
    while not stop.is_set():
        for pid in _tree(found.process.pid):
            _look(found, pid)
        stop.wait(_PAUSE_S)


def _tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(path.name))
        if fields:
            children.setdefault(int(fields[_PARENT]), []).append(int(path.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _look(found: Watched, pid: int) -> None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        read = re.search(r"^read_bytes: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    except OSError:  # it has just ended
        return
    fields, sizes = _stat(pid), dict(re.findall(r"^(VmHWM|RssAnon):\s+(\d+) kB", status, re.MULTILINE))
    if not fields or "VmHWM" not in sizes:
        return
    usage = found.usages.setdefault(pid, Usage(command))
    usage.command, usage.parent = command, int(fields[_PARENT])
    usage.cpu_s = (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS
    usage.peak = max(usage.peak, int(sizes["VmHWM"]) * _KILOBYTE)
    usage.anonymous = max(usage.anonymous, int(sizes["RssAnon"]) * _KILOBYTE)
    usage.read = int(read[1]) if read else 0


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
