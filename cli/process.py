"""A child process that is restarted whenever it dies."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

_log = logging.getLogger(__name__)
_LIBC: Final = ctypes.CDLL(None)
_PR_SET_PDEATHSIG: Final = 1
_STEADY_S: Final = 30.0
"""Who ran for so long is restarted after a short pause; who did not waits longer each time."""
_SHORT_PAUSE_S: Final = 0.5
_LONG_PAUSE_S: Final = 15.0


async def _at_once() -> bool:
    return True


@dataclass
class Child:
    """One supervised process.

    `patience_s` is how long it may take to end after SIGTERM, or after `hurry`, the signal by which it ends without
    delay. It is (re)started only when `starts_after` says yes.
    """

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    patience_s: float
    starts_after: Callable[[], Awaitable[bool]] = _at_once
    hurry: signal.Signals = signal.SIGTERM
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def keep_running(self) -> None:
        """Run the process and restart it whenever it ends, until `stop`."""
        pause = _SHORT_PAUSE_S
        while await self._may_start():
            began = time.monotonic()
            self._process = await self._start()
            if self._stopping.is_set():
                await self._end(self._process)
            status = await self._process.wait()
            if not self._stopping.is_set():
                steady = time.monotonic() - began > _STEADY_S
                pause = _SHORT_PAUSE_S if steady else min(pause * 2, _LONG_PAUSE_S)
                _log.warning("%s ended (%s); restarting it in %.0f s", self.name, _describe(status), pause)
                await self._pause(pause)

    async def stop(self, *, quickly: bool = False) -> None:
        """End the process: SIGTERM, or `hurry`, then SIGKILL when it has used up its time."""
        self._stopping.set()
        if self._process is not None:
            await self._end(self._process, self.hurry if quickly else signal.SIGTERM)

    async def _may_start(self) -> bool:
        while not self._stopping.is_set():
            if await self.starts_after():
                return not self._stopping.is_set()
            await self._pause(0.1)
        return False

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _start(self) -> asyncio.subprocess.Process:
        # A session of its own keeps the terminal's Ctrl-C from the child: the supervisor ends all of them in order.
        return await asyncio.create_subprocess_exec(
            *self.command,
            env={**os.environ, **self.environment},
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )

    async def _end(self, process: asyncio.subprocess.Process, number: signal.Signals = signal.SIGTERM) -> None:
        if process.returncode is not None:
            return
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), self.patience_s)
        except TimeoutError:
            _log.warning("%s did not end within %.0f s; killing it", self.name, self.patience_s)
            process.kill()
            await process.wait()


def _die_with_parent() -> None:
    """Have the kernel end this process when the supervisor is killed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _describe(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
