"""A bounded, thread-safe LRU cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LRUCache(Generic[Value]):
    """Values of the most recently used keys; threads may share it."""

    def __init__(self, capacity: int) -> None:
        """Keep at most `capacity` values."""
        self._capacity = capacity
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._lock = Lock()

    def get_or_create(self, key: str, create: Callable[[], Value]) -> Value:
        """The value cached for `key`, else what `create` returns; if that raises, nothing is cached."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        # Outside of the lock: creating takes long, and other keys need not wait for it.
        created = create()
        with self._lock:
            self._values[key] = created
            if len(self._values) > self._capacity:
                self._values.popitem(last=False)
        return created

    def clear(self) -> None:
        """Remove all values."""
        with self._lock:
            self._values.clear()
