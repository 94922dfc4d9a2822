"""Commits what several threads produce in the order in which it was reserved, without one waiting for another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")


class OrderedCommitter(Generic[Item]):
    """Commits items in the order of their reservations, and all that are ready as one group.

    The thread that submits the next item in order commits it, with those behind it that are ready; all other threads
    return at once. The slower a commit, the more items share the next (group commit).
    """

    def __init__(self, commit: Callable[[Sequence[Item]], None]) -> None:
        self._commit = commit
        self._reservations = count()
        self._next = 0
        self._ready: dict[int, Item | None] = {}
        self._lock = threading.Lock()
        self._committing = False

    def reserve(self) -> int:
        """The position of the next item. Every reservation must be submitted, with None if there is no item."""
        return next(self._reservations)

    def submit(self, position: int, item: Item | None) -> None:
        """Hand in an item, or None to skip the position; raises what a commit raises."""
        with self._lock:
            self._ready[position] = item
            if self._committing:
                return
            self._committing = True
        try:
            while group := self._next_run():
                self._commit(group)
        except BaseException:
            self._committing = False  # no other thread can have begun meanwhile
            raise

    def _next_run(self) -> list[Item]:
        """Take the ready items that follow each other in order; with none left, this thread commits no more."""
        run: list[Item] = []
        with self._lock:
            while self._next in self._ready:
                item = self._ready.pop(self._next)
                self._next += 1
                if item is not None:
                    run.append(item)
            self._committing = bool(run)
        return run
