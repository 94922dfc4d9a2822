"""Puts what several threads bring back into its order, without any of them waiting for another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")


class InOrder(Generic[Item]):
    """Takes a step for items in the order of their numbers, and one step for all that are there.

    Whoever brings the item whose turn it is takes the step, for those behind it too that are there already; all others
    only leave theirs. The slower the step, the more items share one.
    """

    def __init__(self, step: Callable[[Sequence[Item]], None]) -> None:
        self._step = step
        self._numbers = count()
        self._next = 0
        self._there: dict[int, Item | None] = {}
        self._lock = threading.Lock()
        self._stepping = False

    def number(self) -> int:
        """The number of the next item. Each must be brought, even if nothing came of it."""
        return next(self._numbers)

    def bring(self, number: int, item: Item | None) -> None:
        """Leave an item, None if nothing came of it; raises what the step raises."""
        with self._lock:
            self._there[number] = item
            if self._stepping:
                return
            self._stepping = True
        try:
            while group := self._whose_turn_it_is():
                self._step(group)
        except BaseException:
            self._stepping = False  # nobody else has been able to begin meanwhile
            raise

    def _whose_turn_it_is(self) -> list[Item]:
        group: list[Item] = []
        with self._lock:
            while self._next in self._there:
                item = self._there.pop(self._next)
                self._next += 1
                if item is not None:
                    group.append(item)
            self._stepping = bool(group)
        return group
