"""Loads the Lua scripts of `workers/state/lua`: one file per atomic step, whose first line names the files it requires.

The keys of requests are listed at the head of `lua/common.lua`. Others are named where they are used: API keys in
`lua/key_common.lua`, workers in `registry.py`, rates and quotas in `server.limits`.

Every script may be sent twice: when a reply gets lost, a client cannot tell whether the script ran, and retries. Most
scripts recognise from the keys that they ran already. One that adds, or would reply otherwise the second time, requires
`lua/once.lua` and is registered as an `IdempotentScript`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Final

from redis import Redis

from workers.state.versions import QUEUE_VERSION, RECORD_VERSION

FINISHED_CHANNEL: Final = "facelight:finished"
"""Redis publishes the id of every request here as it becomes COMPLETED or FAILED."""
CHANGES_PREFIX: Final = "facelight:changes:"
"""With the id of a request: the channel by which Redis tells of its other changes, those of state and of progress."""
WEBHOOKS_CHANNEL: Final = "facelight:webhooks"
"""Redis tells here that the outbox has a message that is due."""
CANCELLED: Final = "The request was cancelled."
OVERDUE: Final = "The request has waited too long for a worker."
_FOLDER: Final = Path(__file__).with_name("lua")
_REQUIRES: Final = re.compile(r"-- requires ([\w, ]+)\n")


@cache
def load_script(step: str) -> str:
    """The text of `lua/<step>.lua`, behind that of the files that its first line requires."""
    text = Template((_FOLDER / f"{step}.lua").read_text("utf-8")).safe_substitute(
        CANCELLED=CANCELLED,
        FINISHED_CHANNEL=FINISHED_CHANNEL,
        CHANGES_PREFIX=CHANGES_PREFIX,
        WEBHOOKS_CHANNEL=WEBHOOKS_CHANNEL,
        QUEUE_VERSION=QUEUE_VERSION,
        RECORD_VERSION=RECORD_VERSION,
    )
    required = _REQUIRES.match(text)
    return "".join(load_script(name) for name in required[1].split(", ")) + text if required else text


def new_call_id() -> str:
    """A new id for a call that may be sent again: an idempotency key."""
    return secrets.token_hex(8)


class IdempotentScript:
    """A script that requires `once.lua`, called as one of redis-py's; its first argument is the call id."""

    def __init__(self, redis: Redis, script: str) -> None:
        self._script = redis.register_script(script)

    def __call__(self, keys: Iterable[str] = (), args: Iterable[Any] = ()) -> Any:
        """Run the script once, however often the client sends it."""
        return self._script(keys=list(keys), args=[new_call_id(), *args])
