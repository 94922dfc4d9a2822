"""`python -m workers.healthcheck`: whether a worker of this host (in a container: this container) is alive.

For health checks of containers. A worker says that it lives by its entry in the registry, which expires by itself, so a
frozen process, a worker that lost Redis and a process that never came up all fail the probe; one that still loads its
models passes. Whether a model can be served is told by the gateway's `/health/ready`.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Sequence

from redis.exceptions import RedisError

from workers.errors import SettingsError
from workers.settings import CommonSettings, read_settings
from workers.state.connection import connect
from workers.state.registry import WorkerRegistry, WorkerReport


def workers_of(host: str, workers: Sequence[WorkerReport]) -> list[WorkerReport]:
    """Those of the living workers that run on `host`: their names are the host's, a process id and a random tail."""
    name = re.compile(rf"{re.escape(host)}-\d+-[0-9a-f]+")
    return [worker for worker in workers if name.fullmatch(worker.name)]


def describe(worker: WorkerReport) -> str:
    """One line for the engine's log: the worker and the state of its models."""
    return f"{worker.name}: " + ", ".join(f"{slug} {report.state}" for slug, report in sorted(worker.models.items()))


def main() -> None:
    """Exit with 0 and a line per worker, or with 1 and the reason."""
    try:
        settings = read_settings(CommonSettings)
        living = WorkerRegistry(connect(settings.redis_url), settings.heartbeat_ttl_s).live_workers()
    except (SettingsError, RedisError) as error:
        sys.exit(str(error))
    found = workers_of(socket.gethostname(), living)
    sys.stdout.write("".join(f"{describe(worker)}\n" for worker in found))
    sys.exit(None if found else "no living worker on this host")


if __name__ == "__main__":
    main()
