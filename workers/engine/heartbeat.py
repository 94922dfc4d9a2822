"""The worker's sign of life, from a thread of its own so that a long computation does not silence it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from workers.state.registry import WorkerRegistry, WorkerReport

_log = logging.getLogger(__name__)
_AGAIN_S: Final = 0.5
"""After a beat that Redis did not take, the next comes so soon: it must be heard before this worker is missed."""


class Heartbeat(threading.Thread):
    """Announces what `report` returns every `interval_s` seconds until it is stopped; rides out Redis outages."""

    def __init__(self, registry: WorkerRegistry, report: Callable[[], WorkerReport], interval_s: float) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._registry = registry
        self._report = report
        self._interval_s = interval_s
        self._ended = threading.Event()

    def run(self) -> None:
        """Beat until `stop`."""
        while not self._ended.is_set():
            announced = self._announced()
            self._ended.wait(self._interval_s if announced else min(self._interval_s, _AGAIN_S))

    def beat(self) -> None:
        """Announce now, besides the regular beats."""
        self._announced()

    def _announced(self) -> bool:
        try:
            self._registry.heartbeat(self._report())
        except RedisError as error:
            _log.warning("cannot announce this worker: %s", error)
            return False
        return True

    def stop(self) -> None:
        """End the thread and sign off."""
        self._ended.set()
        self.join()
        try:
            self._registry.deregister(self._report().name)
        except RedisError as error:
            _log.warning("cannot sign this worker off: %s", error)
