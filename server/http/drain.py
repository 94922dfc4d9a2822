"""Whether this process drains before it shuts down, and what that ends early."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import Request


@dataclass
class Drain:
    """Begun by a signal: readiness and the response headers tell so. Closing once no connections are accepted."""

    begun: bool = False
    closing: bool = False
    """Whether responses that only wait for news are to end: their clients find another process now."""
    _waiting: set[asyncio.Event] = field(default_factory=set)

    def close(self) -> None:
        """Have responses end that only wait for news."""
        self.closing = True
        for event in self._waiting:
            event.set()

    @contextmanager
    def wakes(self, event: asyncio.Event) -> Iterator[None]:
        """Set `event`, too, when responses are to end."""
        self._waiting.add(event)
        try:
            yield
        finally:
            self._waiting.discard(event)


def drain_of(request: Request) -> Drain:
    """The process' `Drain`, in a route."""
    drain: Drain = request.app.state.drain
    return drain
