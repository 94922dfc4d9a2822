"""A bounded memory of recent results."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Recent(Generic[Result]):
    """The results of the most recently used keys; threads may share it."""

    def __init__(self, capacity: int) -> None:
        """Keep at most `capacity` results."""
        self._capacity = capacity
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str, make: Callable[[], Result]) -> Result:
        """The result kept for `key`, or what `make` returns; what `make` raises passes and nothing is kept."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        # Outside of the lock: making takes long, and other keys need not wait for it.
        made = make()
        with self._lock:
            self._results[key] = made
            if len(self._results) > self._capacity:
                self._results.popitem(last=False)
        return made

    def clear(self) -> None:
        """Keep nothing of what was made until now."""
        with self._lock:
            self._results.clear()
