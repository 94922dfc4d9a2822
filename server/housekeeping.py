"""Runs the janitor at its times: in one of all the gateway processes of a Redis."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from redis.exceptions import LockError, RedisError

from server.context import Gateway
from workers.errors import StoreUnavailable

_log = logging.getLogger(__name__)
_LOCK: Final = "facelight:janitor"
_LOCK_S: Final = 15
"""A process that dies in the middle of a round blocks the others for so long."""


async def keep_house(gateway: Gateway) -> None:
    """Do a round of repairs and cleaning every `janitor_interval_s`, until cancelled."""
    while True:
        await asyncio.sleep(gateway.settings.janitor_interval_s)
        try:
            await asyncio.to_thread(tidy_alone, gateway)
        except RedisError as error:
            _log.warning("no cleaning without Redis: %s", error)
        except StoreUnavailable as error:
            _log.warning("expired files stay for now: %s", error)
        except Exception:  # noqa: BLE001 - one bad round must not end all cleaning for the life of the process
            _log.exception("a round of cleaning failed")


def tidy_alone(gateway: Gateway) -> bool:
    """Do one round unless another process is at it; returns whether it was done."""
    lock = gateway.redis.lock(_LOCK, timeout=_LOCK_S, blocking=False)
    if not lock.acquire():
        return False
    try:
        gateway.janitor.tidy()
    finally:
        with suppress(LockError):  # the round took longer than the lock lives
            lock.release()
    return True
