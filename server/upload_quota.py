"""How much one caller may upload in a day."""

from __future__ import annotations

import math
from typing import Final

from redis import Redis

from server.errors import TooManyRequests
from workers.state.scripts import IdempotentScript, load_script

_WINDOW_S: Final = 86_400


class UploadQuota:
    """Counts the bytes that each owner uploads in the 24 hours that begin with its first upload."""

    def __init__(self, redis: Redis, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._count = IdempotentScript(redis, load_script("count_upload"))

    def count(self, owner: str, size: int) -> None:
        """Count so many bytes; raises `TooManyRequests`, which counts nothing, if they are too many."""
        wait_s = int(self._count(keys=[f"facelight:uploads:{owner}"], args=[size, self._limit, _WINDOW_S]))
        if wait_s:
            sentence = f"This caller may upload {self._limit // 1024**2} MB a day. Try again in {_hours(wait_s)}."
            raise TooManyRequests(sentence, headers={"Retry-After": str(wait_s)})


def _hours(seconds: int) -> str:
    return f"{math.ceil(seconds / 3600)} h"
