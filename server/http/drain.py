"""Whether this process drains before it shuts down."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request


@dataclass
class Drain:
    """Set once by a signal; read by readiness and by the response headers."""

    begun: bool = False


def drain_of(request: Request) -> Drain:
    """The process' `Drain`, in a route."""
    drain: Drain = request.app.state.drain
    return drain
