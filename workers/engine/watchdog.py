"""Ends the process when a computation does not come back: a hung kernel, an endless loop.

What runs on a device cannot be interrupted from Python, so the process itself has to go; its supervisor starts another
one, and the janitor has the request tried once more.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

GRACE_S: Final = 10.0
"""What a computation gets beyond its deadline: it should have seen that at its next step."""
EXIT_STATUS: Final = 4
_NATIVE_DELAY_S: Final = 1.0
_LOOK_EVERY_S: Final = 5.0
"""The native alarm follows the deadlines that late: it may ring so much too early, which is half of the grace."""
_STDERR: Final = 2
_log = logging.getLogger(__name__)


class Watchdog(threading.Thread):
    """Watches any number of computations at a time. Times are those of the monotonic clock.

    Code that never lets go of the interpreter keeps this thread from running too; a native alarm, which needs no
    interpreter, stands behind it. Setting one costs more than a small job, so it is left standing for the next.
    """

    def __init__(self) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._deadlines: dict[object, tuple[float, str]] = {}
        self._alarm_at = 0.0
        """When the native alarm rings, less its delay; 0 if none is set."""
        self._news = threading.Condition()
        self._ended = False

    @contextmanager
    def ends_process_after(self, seconds: float, what: str) -> Iterator[None]:
        """End the process, with a stack trace of every thread, if the block takes longer; `what` is for the log."""
        mark, deadline = object(), time.monotonic() + seconds
        with self._news:
            self._deadlines[mark] = (deadline, what)
            if not self._alarm_at or deadline < self._alarm_at:
                self._set_alarm()
                self._news.notify()
        try:
            yield
        finally:
            with self._news:
                del self._deadlines[mark]

    def run(self) -> None:
        """Watch until `stop`."""
        with self._news:
            while not self._ended:
                self._look()
                left = self._alarm_at - time.monotonic()
                self._news.wait(max(0.0, min(left, _LOOK_EVERY_S)) if self._alarm_at else None)

    def stop(self) -> None:
        """End the thread."""
        with self._news:
            self._ended = True
            self._news.notify()
        self.join()
        faulthandler.cancel_dump_traceback_later()

    def _look(self) -> None:
        overdue = [what for deadline, what in self._deadlines.values() if deadline <= time.monotonic()]
        if overdue:
            _end(overdue[0])
        self._set_alarm()

    def _set_alarm(self) -> None:
        self._alarm_at = min((deadline for deadline, _ in self._deadlines.values()), default=0.0)
        if self._alarm_at:
            seconds = max(0.0, self._alarm_at - time.monotonic()) + _NATIVE_DELAY_S
            faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
        else:
            faulthandler.cancel_dump_traceback_later()


def _end(what: str) -> None:
    _log.critical("%s does not come back: this process ends", what)
    faulthandler.dump_traceback(file=_STDERR)
    os._exit(EXIT_STATUS)
