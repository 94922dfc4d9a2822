"""A TCP proxy in front of Redis whose connections a test can pause, cut, or rob of their answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

_CHUNK = 64 * 1024
_Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]
"""Of the client and of Redis."""


class Shim:
    """Listens on a port of the loopback address for as long as the block lasts, and passes everything on."""

    def __init__(self, target: Path) -> None:
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="shim", daemon=True)
        self._open: asyncio.Event
        self._pairs: set[_Pair] = set()
        self._muted: set[_Pair] = set()
        self._robbed: bytes | None = None
        self.lost = 0
        """How many answers were lost by `lose_answer`."""

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

    def mute(self) -> None:
        """Pass nothing on any more in the connections that are open now; new ones are not affected."""
        self._do(self._mute())

    def cut(self) -> int:
        """Break all connections at once, with whatever is on its way in them; returns how many there were."""
        return int(self._do(self._cut()))

    def lose_answer(self, command: bytes) -> None:
        """Break the connection that passes on the next `command`, once Redis has answered it, instead of the answer.

        A command that Redis did not run, since it does not know the script, is passed on.
        """
        self._robbed = command

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

    async def _mute(self) -> None:
        self._muted |= self._pairs

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
            to_lose = asyncio.Event()
            await asyncio.gather(self._pass_on(reader, pair, to_lose), self._pass_back(there_reader, pair, to_lose))
        finally:
            self._pairs.discard(pair)

    async def _pass_on(self, reader: asyncio.StreamReader, pair: _Pair, to_lose: asyncio.Event) -> None:
        _, there = pair
        with suppress(OSError):
            while data := await self._received(reader, pair):
                if self._robbed is not None and self._robbed in data:
                    to_lose.set()
                there.write(data)
                await there.drain()
        there.close()

    async def _pass_back(self, reader: asyncio.StreamReader, pair: _Pair, to_lose: asyncio.Event) -> None:
        writer, there = pair
        with suppress(OSError):
            while data := await self._received(reader, pair):
                if to_lose.is_set() and self._robbed is not None and not data.startswith(b"-NOSCRIPT"):
                    self._robbed = None
                    self.lost += 1
                    writer.transport.abort()
                    there.transport.abort()
                    return
                to_lose.clear()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _received(self, reader: asyncio.StreamReader, pair: _Pair) -> bytes:
        """What is to be passed on next; nothing at the end."""
        while data := await reader.read(_CHUNK):
            await self._open.wait()
            if pair not in self._muted:
                return data
        return b""
