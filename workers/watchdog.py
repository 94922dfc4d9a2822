"""Ends the process when a computation does not come back: a hung kernel, an endless loop.

What runs on a device cannot be interrupted from Python, so the process itself has to go; its supervisor starts another
one, and the janitor has the request tried once more.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

GRACE_S: Final = 10.0
"""What a computation gets beyond its deadline: it should have seen that at its next step."""
EXIT_STATUS: Final = 4
_NATIVE_DELAY_S: Final = 1.0
_STDERR: Final = 2
_log = logging.getLogger(__name__)


@contextmanager
def process_ends_after(seconds: float, what: str) -> Iterator[None]:
    """End the process, with a stack trace of every thread, if the block takes longer; `what` is for the log.

    Time is that of the monotonic clock.
    """
    timer = threading.Timer(seconds, _end, [what])
    timer.daemon = True
    # Code that never lets go of the interpreter keeps the timer from running, but not this, which needs none.
    faulthandler.dump_traceback_later(seconds + _NATIVE_DELAY_S, exit=True, file=_STDERR)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()


def _end(what: str) -> None:
    _log.critical("%s does not come back: this process ends", what)
    faulthandler.dump_traceback(file=_STDERR)
    os._exit(EXIT_STATUS)
