"""A supervised process: restarted with a backoff whenever it exits."""

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
"""A process that ran for so long is restarted after the first pause; else the pause doubles each time."""
_FIRST_PAUSE_S: Final = 0.5
_MAX_PAUSE_S: Final = 15.0
_MAX_PAUSE_LOADING_S: Final = 300.0
"""Of a process that ends while it loads: it reads gigabytes each time."""


async def _always() -> bool:
    return True


def _nothing(_pid: int) -> str:
    return ""


@dataclass
class SupervisedProcess:
    """One supervised process.

    `stop_timeout_s` is how long it may take to exit after SIGTERM, or after `quick_stop`, the signal that makes it exit
    without a drain delay, before it is killed. It is started, and restarted, only once `can_start` returns true.
    `loading` tells what the ended process with that id was still loading, if anything.
    """

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    stop_timeout_s: float
    can_start: Callable[[], Awaitable[bool]] = _always
    quick_stop: signal.Signals = signal.SIGTERM
    loading: Callable[[int], str] = _nothing
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def keep_running(self) -> None:
        """Run the process and restart it whenever it ends, until `stop`."""
        pause = _FIRST_PAUSE_S
        while await self._wait_until_startable():
            began = time.monotonic()
            self._process = await self._start()
            if self._stopping.is_set():
                await self._terminate(self._process)
            status = await self._process.wait()
            if not self._stopping.is_set():
                loading = self.loading(self._process.pid)
                # However long it took: who never came to serve anything is not steady.
                steady = not loading and time.monotonic() - began > _STEADY_S
                longest = _MAX_PAUSE_LOADING_S if loading else _MAX_PAUSE_S
                pause = _FIRST_PAUSE_S if steady else min(pause * 2, longest)
                end = _describe(status) + (f" while it was loading {loading}" if loading else "")
                _log.warning("%s exited (%s); restarting it in %.1f s", self.name, end, pause)
                await self._pause(pause)

    async def stop(self, *, quickly: bool = False) -> None:
        """Stop the process: SIGTERM, or `quick_stop`, then SIGKILL after `stop_timeout_s`."""
        self._stopping.set()
        if self._process is not None:
            await self._terminate(self._process, self.quick_stop if quickly else signal.SIGTERM)

    async def _wait_until_startable(self) -> bool:
        while not self._stopping.is_set():
            if await self.can_start():
                return not self._stopping.is_set()
            await self._pause(0.1)
        return False

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _start(self) -> asyncio.subprocess.Process:
        # In a session of its own it does not get the terminal's Ctrl-C: the supervisor stops all processes in order.
        return await asyncio.create_subprocess_exec(
            *self.command,
            env={**os.environ, **self.environment},
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    async def _terminate(self, process: asyncio.subprocess.Process, number: signal.Signals = signal.SIGTERM) -> None:
        if process.returncode is not None:
            return
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), self.stop_timeout_s)
        except TimeoutError:
            _log.warning("%s did not exit within %.0f s; killing it", self.name, self.stop_timeout_s)
            process.kill()
            await process.wait()


def die_with_parent() -> None:
    """Have the kernel terminate this process when the one that started it is killed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _describe(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
