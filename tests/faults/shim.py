"""A TCP proxy in front of Redis whose connections a test can pause, cut, or rob of their answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

_CHUNK = 64 * 1024


class Shim:
    """Listens on a port of the loopback address for as long as the block lasts, and passes everything on."""

    def __init__(self, target: Path) -> None:
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="shim", daemon=True)
        self._open: asyncio.Event
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()

    @property
    def url(self) -> str:
        """The Redis behind it, as its clients are told."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Shim:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def pause(self) -> None:
        """Pass nothing on any more, and keep every connection open."""
        self._do(self._set(paused=True))

    def resume(self) -> None:
        """Pass on what has gathered, and everything from now on."""
        self._do(self._set(paused=False))

    def cut(self) -> int:
        """Break all connections at once, with whatever is on its way in them; returns how many there were."""
        return int(self._do(self._cut()))

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._open.set()
        self._server.close()
        await self._cut()

    async def _set(self, paused: bool) -> None:
        if paused:
            self._open.clear()
        else:
            self._open.set()

    async def _cut(self) -> int:
        pairs = list(self._pairs)
        for writer in (writer for pair in pairs for writer in pair):
            writer.transport.abort()
        return len(pairs)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, there)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pass_on(reader, there), self._pass_on(there_reader, writer))
        finally:
            self._pairs.discard(pair)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
