"""Ends the process when a computation exceeds its deadline and does not return: a hung kernel, an endless loop.

What runs on a device cannot be interrupted from Python, so the process itself has to end; its supervisor starts another
one, and the janitor requeues the request.
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
"""Grace period beyond the deadline, which a computation checks by itself at every step."""
EXIT_STATUS: Final = 4
_NATIVE_DELAY_S: Final = 1.0
_CHECK_EVERY_S: Final = 5.0
"""The native timer is set to the earliest deadline so often: it may fire so much early, half of the grace period."""
_STDERR: Final = 2
_log = logging.getLogger(__name__)


class Watchdog(threading.Thread):
    """Watches any number of computations at a time. Times are those of the monotonic clock.

    Code that never releases the GIL blocks this thread too, so a native timer (`faulthandler`), which needs no
    interpreter, backs it. Setting it costs more than a small job, so it is left set for the next one.
    """

    def __init__(self) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._deadlines: dict[object, tuple[float, str]] = {}
        self._timer_at = 0.0
        """When the native timer fires, less its delay; 0 if it is not set."""
        self._changed = threading.Condition()
        self._stopped = False

    @contextmanager
    def ends_process_after(self, seconds: float, request_id: str) -> Iterator[None]:
        """End the process, with a stack trace of every thread, if the block takes longer; the id is for the log."""
        key, deadline = object(), time.monotonic() + seconds
        with self._changed:
            self._deadlines[key] = (deadline, request_id)
            if not self._timer_at or deadline < self._timer_at:
                self._set_timer()
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._deadlines[key]

    def run(self) -> None:
        """Watch until `stop`."""
        with self._changed:
            while not self._stopped:
                self._check()
                left = self._timer_at - time.monotonic()
                self._changed.wait(max(0.0, min(left, _CHECK_EVERY_S)) if self._timer_at else None)

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self.is_alive():  # a signal may have come before it was started
            self.join()
        faulthandler.cancel_dump_traceback_later()

    def _check(self) -> None:
        overdue = [request_id for deadline, request_id in self._deadlines.values() if deadline <= time.monotonic()]
        if overdue:
            _end_process(overdue[0])
        self._set_timer()

    def _set_timer(self) -> None:
        self._timer_at = min((deadline for deadline, _ in self._deadlines.values()), default=0.0)
        if self._timer_at:
            seconds = max(0.0, self._timer_at - time.monotonic()) + _NATIVE_DELAY_S
            faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
        else:
            faulthandler.cancel_dump_traceback_later()


def _end_process(request_id: str) -> None:
    message = "request %s exceeds its deadline and does not return: this process ends"
    _log.critical(message, request_id, extra={"request_id": request_id})
    faulthandler.dump_traceback(file=_STDERR)
    os._exit(EXIT_STATUS)
