"""How many pictures are fetched for one caller at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from server.errors import RETRY_AFTER_S, TooManyRequests

PATIENCE_S: Final = 15.0


class FetchSlots:
    """`count` places per owner. Slow hosts that one caller names keep that caller waiting, and nobody else."""

    def __init__(self, count: int, patience_s: float = PATIENCE_S) -> None:
        self._count = count
        self._patience_s = patience_s
        self._taken: dict[str, asyncio.Semaphore] = {}
        self._interested: dict[str, int] = {}

    @asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[None]:
        """Hold one of the owner's places; raises `TooManyRequests` if none gets free in time."""
        places = self._taken.setdefault(owner, asyncio.Semaphore(self._count))
        self._interested[owner] = self._interested.get(owner, 0) + 1
        try:
            await self._acquire(places)
            try:
                yield
            finally:
                places.release()
        finally:
            self._interested[owner] -= 1
            if not self._interested[owner]:
                del self._interested[owner], self._taken[owner]

    async def _acquire(self, places: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await places.acquire()
        except TimeoutError as error:
            sentence = f"{self._count} pictures are being fetched for this caller already. Try again later."
            raise TooManyRequests(sentence, headers={"Retry-After": str(RETRY_AFTER_S)}) from error
