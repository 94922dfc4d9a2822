"""The HTTP server around the application: its limits, and how it leaves.

SIGTERM   `/health/ready` turns 503 at once and every answer closes its connection; for `drain_delay_s` requests are
          still taken, so that whoever balances the load can notice
then, or  no new connections; requests under way are answered for up to `drain_timeout_s`, v1 calls that still wait are
SIGINT    told their request's addresses (504)
"""

from __future__ import annotations

import resource
import signal
import time
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from server.http.drain import Drain
from server.http.protocol import LimitedConfig, Limits
from server.settings import GatewaySettings

_SPARE_FILES: Final = 1000
"""Open files besides connections: Redis, pictures, fetches."""


def build_server(app: FastAPI, settings: GatewaySettings) -> uvicorn.Server:
    """The server of one gateway process."""
    config = LimitedConfig(
        app,
        Limits(connections=settings.max_connections),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_timeout_s,
    )
    return DrainingServer(config, app.state.drain, settings.drain_delay_s)


def permit_connections(count: int) -> None:
    """Raise this process' limit of open files, as far as it may, so that so many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


class DrainingServer(uvicorn.Server):
    """Tells that it is about to leave before it does. Ends with exit status 0 when it was asked to."""

    def __init__(self, config: uvicorn.Config, drain: Drain, delay_s: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._delay_s = delay_s
        self._leave_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the base's signature
        """Begin to leave; asked a second time, or by SIGINT, do so without delay, and the third time at once."""
        if sig == signal.SIGTERM and not self._drain.begun:
            self._leave_at = time.monotonic() + self._delay_s
        elif self.should_exit:
            self.force_exit = True
        else:
            self.should_exit = True
        self._drain.begun = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to leave now."""
        if self._leave_at is not None and time.monotonic() >= self._leave_at:
            self.should_exit = True
        return await super().on_tick(counter)
