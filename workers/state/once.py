"""Steps that Redis takes once, however often they are sent.

When an answer gets lost, nobody can tell whether the step was taken, so it is sent again. Most scripts look at what is
there and notice by themselves. One that adds, or whose answer is another the second time, uses
`lua/once.lua`: its first argument is a name for the call, under which Redis keeps the answer for a minute and gives the
same one again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from redis import Redis


def new_call_id() -> str:
    """A name for a call that may have to be sent again."""
    return secrets.token_hex(8)


class IdempotentScript:
    """A script that requires `once`, called like one of redis-py's."""

    def __init__(self, redis: Redis, script: str) -> None:
        self._script = redis.register_script(script)

    def __call__(self, keys: Iterable[str] = (), args: Iterable[Any] = ()) -> Any:
        """Take the step; every call has a name of its own."""
        return self._script(keys=list(keys), args=[new_call_id(), *args])
