"""The worker's sign of life, from a thread of its own so that a long computation does not silence it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from redis.exceptions import RedisError

from workers.presence import Presence, WorkerReport

_log = logging.getLogger(__name__)


class Heartbeat(threading.Thread):
    """Announces what `report` returns every `interval_s` seconds until it is stopped; rides out Redis outages."""

    def __init__(self, presence: Presence, report: Callable[[], WorkerReport], interval_s: float) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._presence = presence
        self._report = report
        self._interval_s = interval_s
        self._ended = threading.Event()

    def run(self) -> None:
        """Beat until `stop`."""
        while not self._ended.is_set():
            self.beat()
            self._ended.wait(self._interval_s)

    def beat(self) -> None:
        """Announce now, besides the regular beats."""
        try:
            self._presence.announce(self._report())
        except RedisError as error:
            _log.warning("cannot announce this worker: %s", error)

    def stop(self) -> None:
        """End the thread and sign off."""
        self._ended.set()
        self.join()
        try:
            self._presence.leave(self._report().name)
        except RedisError as error:
            _log.warning("cannot sign this worker off: %s", error)
