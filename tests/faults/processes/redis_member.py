"""A real redis-server that writes every change to its append-only file, and survives its own death as far as it can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.faults.processes.members import Member
from tests.faults.processes.waiting import until
from tests.redis_server import REDIS_SERVER


class RedisMember(Member):
    """The settings of `facelight serve`, but that the append-only file is never rewritten: it is the audit log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "redis.socket"
        self.url = f"unix://{self.socket}"
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "auto-aof-rewrite-percentage": "0",
            "save": "",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        super().__init__("redis", [REDIS_SERVER, *words], {}, folder)
        self.client: Any = Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))
        """Answers bytes."""

    @property
    def append_only_file(self) -> Path:
        """Every write; since Redis 7 in a folder, beside an empty base."""
        since_7 = list((self._folder / "appendonlydir").glob("*.incr.aof"))
        return since_7[0] if since_7 else self._folder / "appendonly.aof"

    def start(self) -> None:
        """Start it and wait until it has loaded its file."""
        super().start()
        until(self.answers, "Redis", timeout_s=30, pause_s=0.01)

    def answers(self) -> bool:
        """Whether it takes commands."""
        try:
            return bool(self.client.ping())
        except RedisError:
            return False
