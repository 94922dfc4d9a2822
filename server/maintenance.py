"""Runs the janitor at its times: in one of all the gateway processes of a Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis import Redis
from redis.exceptions import RedisError

from server.dependencies import Gateway
from workers.errors import StoreUnavailable
from workers.state.connection import decode
from workers.state.scripts import load_script, new_call_id

_log = logging.getLogger(__name__)
_LOCK: Final = "facelight:janitor"
_LOCK_S: Final = 15
"""A process that dies in the middle of a round blocks the others for so long."""


async def run_janitor(gateway: Gateway) -> None:
    """Do a round of repairs and cleaning every `janitor_interval_s`, until cancelled."""
    while True:
        await asyncio.sleep(gateway.settings.janitor_interval_s)
        try:
            await asyncio.to_thread(run_once_locked, gateway)
        except RedisError as error:
            _log.warning("no cleaning without Redis: %s", error)
        except StoreUnavailable as error:
            _log.warning("expired files stay for now: %s", error)
        except Exception:  # noqa: BLE001 - one bad round must not end all cleaning for the life of the process
            _log.exception("a round of cleaning failed")


def run_once_locked(gateway: Gateway) -> bool:
    """Do one round unless another process is at it; returns whether it was done."""
    with _locked(gateway.redis) as is_ours:
        if is_ours:
            gateway.janitor.run_once()
    return is_ours


@contextmanager
def _locked(redis: Redis) -> Iterator[bool]:
    """Whether the lock could be had. redis-py's own takes itself for another's once its answer got lost."""
    holder = new_call_id()
    is_ours = bool(redis.set(_LOCK, holder, nx=True, ex=_LOCK_S)) or decode(redis.get(_LOCK)) == holder
    try:
        yield is_ours
    finally:
        if is_ours:
            redis.register_script(load_script("release_lock"))(keys=[_LOCK], args=[holder])
