"""Whether this process is about to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request


@dataclass
class Drain:
    """Set once, by a signal; read wherever somebody should be told to go elsewhere."""

    begun: bool = False


async def _drain(request: Request) -> Drain:
    drain: Drain = request.app.state.drain
    return drain


DrainDep = Annotated[Drain, Depends(_drain)]
"""The process' `Drain`, in a route."""
