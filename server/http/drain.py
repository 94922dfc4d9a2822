"""Whether this process is about to end."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request


@dataclass
class Drain:
    """Set once, by a signal; read wherever somebody should be told to go elsewhere."""

    begun: bool = False


def drain_of(request: Request) -> Drain:
    """The process' `Drain`, in a route."""
    drain: Drain = request.app.state.drain
    return drain
