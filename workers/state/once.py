"""Steps that Redis takes once, however often they are sent.

When an answer gets lost, nobody can tell whether the step was taken, so it is sent again. Most scripts look at what is
there and notice by themselves. One that adds, or whose answer is another the second time, is wrapped: its first
argument is a name for the call, under which Redis keeps the answer for a minute and gives the same one again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, Final

from redis import Redis

_KEPT_S: Final = 60
"""How long an answer is kept: calls are sent again within seconds, or under another name."""


def new_call_id() -> str:
    """A name for a call that may have to be sent again."""
    return secrets.token_hex(8)


def once(body: str, common: str = "") -> str:
    """The Lua script that takes the step `body` once.

    `body` finds its own arguments in ARGV, and returns its answer; a second value `false` says that nothing has
    changed, so the answer need not be kept. `common` are definitions that stand before it. A Redis that is full or
    read-only keeps no answer, hence pcall; what it refuses was not done.
    """
    return f"""{common}
local kept_as = 'facelight:answer:' .. ARGV[1]
local kept = redis.call('GET', kept_as)
if kept then return cmsgpack.unpack(kept) end
local function step(ARGV)
{body}
end
local answer, changed = step({{unpack(ARGV, 2)}})
if changed ~= false then redis.pcall('SET', kept_as, cmsgpack.pack(answer), 'EX', {_KEPT_S}) end
return answer
"""


class IdempotentScript:
    """A script made by `once`, called like one of redis-py's."""

    def __init__(self, redis: Redis, script: str) -> None:
        self._script = redis.register_script(script)

    def __call__(self, keys: Iterable[str] = (), args: Iterable[Any] = ()) -> Any:
        """Take the step; every call has a name of its own."""
        return self._script(keys=list(keys), args=[new_call_id(), *args])
