"""One clock for all processes and hosts: Redis', carried on by this machine's monotonic clock.

What a host's own clock says may jump, and differ from what the next host's says; nothing is decided by it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

_log = logging.getLogger(__name__)
_ASK_EVERY_S: Final = 60.0
_ASK_AGAIN_S: Final = 5.0
"""After a Redis that was away."""


class SharedClock:
    """Seconds since the epoch by Redis' clock, which is asked once a minute. May be used by several threads.

    Until Redis has answered once, it is this machine's own clock.
    """

    def __init__(self, ask: Callable[[], float]) -> None:
        """`ask` asks Redis for its time, in seconds since the epoch; it may raise `RedisError`."""
        self._ask = ask
        self._ahead = time.time() - time.monotonic()
        self._ask_at = 0.0

    def __call__(self) -> float:
        """The time now."""
        if time.monotonic() >= self._ask_at:
            self._set()
        return time.monotonic() + self._ahead

    def _set(self) -> None:
        # First of all, so that other threads do not ask as well.
        self._ask_at = time.monotonic() + _ASK_AGAIN_S
        try:
            self._ahead = self._ask() - time.monotonic()
        except RedisError as error:
            _log.debug("the clock goes on by itself: %s", error)
        else:
            self._ask_at = time.monotonic() + _ASK_EVERY_S
