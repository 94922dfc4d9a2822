"""`python -m workers.healthcheck`: whether a worker of this host (in a container: this container) is alive.

For health checks of containers. A live worker renews its entry in the registry, which expires otherwise: a hung
process, a worker without Redis and a process that never started all fail the check; one that is loading its models
passes. Readiness of models is reported by the gateway's `/health/ready`.
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
    """Those of the live workers that run on `host`; a name is the host's, a process id and a random suffix."""
    name = re.compile(rf"{re.escape(host)}-\d+-[0-9a-f]+")
    return [worker for worker in workers if name.fullmatch(worker.name)]


def describe(worker: WorkerReport) -> str:
    """One line for the container engine's log: the worker and the state of its models."""
    return f"{worker.name}: " + ", ".join(f"{slug} {report.state}" for slug, report in sorted(worker.models.items()))


def main() -> None:
    """Exit with 0 and a line per worker, or with 1 and the reason."""
    try:
        settings = read_settings(CommonSettings)
        live = WorkerRegistry(connect(settings.redis_url), settings.heartbeat_ttl_s).live_workers()
    except (SettingsError, RedisError) as error:
        sys.exit(str(error))
    found = workers_of(socket.gethostname(), live)
    sys.stdout.write("".join(f"{describe(worker)}\n" for worker in found))
    sys.exit(None if found else "no live worker on this host")


if __name__ == "__main__":
    main()
