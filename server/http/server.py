"""The HTTP server around the application: its limits and its graceful shutdown.

SIGTERM   `/health/ready` is 503 at once and every response closes its connection; requests are still accepted for
          `drain_delay_s`, so that load balancers can notice
then, or  no new connections; streams of events and calls that wait for a state end; other requests in progress have
SIGINT    `drain_timeout_s` to finish, v1 calls that still wait get 504 with the URLs of their request
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import time
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from server.http.drain import Drain
from server.http.protocol import LimitedConfig, Limits
from server.settings import GatewaySettings

_RESERVED_DESCRIPTORS: Final = 1000
"""File descriptors besides connections: Redis, stored files, fetches."""
_LAST_REQUESTS_S: Final = 0.3
"""Time for connections that were just made to send their request, before those without one are closed."""


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


def raise_descriptor_limit(count: int) -> None:
    """Raise the soft limit of open files for `count` connections, up to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _RESERVED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


class DrainingServer(uvicorn.Server):
    """Drains before it shuts down. Exits with status 0 after a signal."""

    def __init__(self, config: uvicorn.Config, drain: Drain, delay_s: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._delay_s = delay_s
        self._shutdown_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the base's signature
        """Start draining; SIGINT or a second signal skips the delay, a third one the graceful shutdown."""
        if sig == signal.SIGTERM and not self._drain.begun:
            self._shutdown_at = time.monotonic() + self._delay_s
        elif self.should_exit:
            self.force_exit = True
        else:
            self.should_exit = True
        self._drain.begun = True

    async def on_tick(self, counter: int) -> bool:
        """Called every 0.1 s: whether to shut down now."""
        if self._shutdown_at is not None and time.monotonic() >= self._shutdown_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve what is connected already: the kernel resets connections that wait in a queue when it is closed."""
        connected: list[socket.socket] = []
        for listener in self.servers:
            queues = [socket.socket(fileno=os.dup(opened.fileno())) for opened in listener.sockets]
            listener.close()
            for queue in queues:
                with queue, suppress(OSError):  # none is left, or no file descriptor for one
                    while True:
                        connected.append(queue.accept()[0])
        for connection in connected:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(_LAST_REQUESTS_S)
        self._drain.close()
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol
