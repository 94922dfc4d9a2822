"""The worker's heartbeat, on a thread of its own so that a long computation does not delay it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from workers.metrics.events import NOT_COUNTED, WorkerEvents
from workers.state.registry import WorkerRegistry, WorkerReport

_log = logging.getLogger(__name__)
_RETRY_S: Final = 0.5
"""A beat that failed is repeated so soon, before the worker is presumed dead."""


class Heartbeat(threading.Thread):
    """Writes what `report` returns every `interval_s` seconds until it is stopped; survives Redis outages."""

    def __init__(
        self,
        registry: WorkerRegistry,
        report: Callable[[], WorkerReport],
        interval_s: float,
        events: WorkerEvents = NOT_COUNTED,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._registry = registry
        self._report = report
        self._interval_s = interval_s
        self._events = events
        self._stopped = threading.Event()

    def run(self) -> None:
        """Beat until `stop`."""
        while not self._stopped.is_set():
            written = self._write()
            self._stopped.wait(self._interval_s if written else min(self._interval_s, _RETRY_S))

    def beat(self) -> None:
        """Write the report now, besides the regular beats."""
        self._write()

    def _write(self) -> bool:
        try:
            self._registry.heartbeat(self._report())
        except RedisError as error:
            _log.warning("heartbeat failed: %s", error)
            self._events.heartbeat_failed()
            return False
        return True

    def stop(self) -> None:
        """End the thread and deregister."""
        self._stopped.set()
        if self.is_alive():  # a signal may have come before it was started
            self.join()
        try:
            self._registry.deregister(self._report().name)
        except RedisError as error:
            _log.warning("cannot deregister: %s", error)
