"""Runs the janitor periodically, in one of all gateway processes of a Redis at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis import Redis
from redis.exceptions import RedisError

from workers.errors import StoreUnavailable
from workers.state.connection import decode
from workers.state.janitor import Janitor
from workers.state.scripts import load_script, new_call_id

_log = logging.getLogger(__name__)
_LOCK: Final = "facelight:janitor"
_LOCK_S: Final = 15
"""TTL of the lock: how long a process that dies while it holds it blocks the others."""


async def run_janitor(janitor: Janitor, redis: Redis, interval_s: float) -> None:
    """Run the janitor every `interval_s` seconds, until cancelled."""
    while True:
        await asyncio.sleep(interval_s)
        try:
            await asyncio.to_thread(run_once_locked, janitor, redis)
        except RedisError as error:
            _log.warning("the janitor cannot run without Redis: %s", error)
        except StoreUnavailable as error:
            _log.warning("expired files were not deleted: %s", error)
        except Exception:  # noqa: BLE001 - one failed run must not be the process' last
            _log.exception("a run of the janitor failed")


def run_once_locked(janitor: Janitor, redis: Redis) -> bool:
    """Run the janitor once, unless another process holds the lock; returns whether it ran."""
    with _locked(redis) as acquired:
        if acquired:
            janitor.run_once()
    return acquired


@contextmanager
def _locked(redis: Redis) -> Iterator[bool]:
    """Whether the lock was acquired. redis-py's own lock fails to recognise its holder when a reply is lost."""
    holder = new_call_id()
    acquired = bool(redis.set(_LOCK, holder, nx=True, ex=_LOCK_S)) or decode(redis.get(_LOCK)) == holder
    try:
        yield acquired
    finally:
        if acquired:
            redis.register_script(load_script("release_lock"))(keys=[_LOCK], args=[holder])
