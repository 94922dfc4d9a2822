"""The audit log: every state transition of every request, read from the append-only file of Redis.

The file holds every write of every script, in order, and survives the processes that made them. So it says without a
gap how often a request became COMPLETED or FAILED, by which process ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from workers.state.record import Status

_RECORD = b"facelight:request:"
_WRITES = {b"HSET", b"HMSET", b"HSETNX"}


@dataclass(frozen=True)
class RequestLifecycle:
    """The states that a request went through, as they were written."""

    states: tuple[Status, ...]

    @property
    def ends(self) -> int:
        """How often it reached a final state."""
        return sum(state.is_final for state in self.states)

    @property
    def changed_after_end(self) -> bool:
        """Whether any state followed a final one."""
        return any(state.is_final for state in self.states[:-1])


def read_audit_log(append_only_file: Path) -> dict[str, RequestLifecycle]:
    """The lifecycle of every request, by id, oldest first."""
    states: defaultdict[str, list[Status]] = defaultdict(list)
    with append_only_file.open("rb") as file:
        for command in _commands(file):
            if command[0].upper() in _WRITES and command[1].startswith(_RECORD):
                fields = dict(zip(command[2::2], command[3::2], strict=True))
                if status := fields.get(b"status"):
                    states[command[1].removeprefix(_RECORD).decode()].append(Status(status.decode()))
    return {request_id: RequestLifecycle(tuple(found)) for request_id, found in states.items()}


def _commands(file: BinaryIO) -> Iterator[list[bytes]]:
    """The commands of the file (RESP arrays of bulk strings); a last one that is cut short is left out."""
    while (head := file.readline()).startswith(b"*"):
        words = []
        for _ in range(int(head[1:])):
            length = int(file.readline()[1:] or 0)
            words.append(file.read(length))
            file.read(2)
        if file.tell() and len(words[-1]) == length:
            yield words
