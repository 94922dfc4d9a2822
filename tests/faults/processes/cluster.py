"""A whole installation for one fault: Redis, gateways and workers as processes, and the audit of all its requests."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.audit import audit
from tests.faults.processes.caller import Caller, is_final
from tests.faults.processes.members import Keeper, Member
from tests.faults.processes.redis_member import RedisMember
from tests.faults.processes.replication import ReplicatedRedis
from tests.faults.processes.shim import Shim
from tests.faults.processes.waiting import until
from tests.faults.runs import RunLog
from tests.live_server import free_port

_SETTINGS = {"queue_limit": "100000", "queue_limit_per_key": "100000", "models": "ic-light"}


@dataclass
class Cluster:
    """Everything that one fault is done to."""

    folder: Path
    redis: RedisMember
    gateways: list[Member]
    workers: list[Member]
    caller: Caller
    runs: RunLog
    environment: dict[str, str]
    shim: Shim | None = None
    replicated: ReplicatedRedis | None = None
    """In the place of `redis`, which is not started then."""

    @property
    def data_dir(self) -> Path:
        """Where gateways and workers write."""
        return self.folder / "data"

    def settled(self, timeout_s: float = 90) -> None:
        """Wait until every accepted request has ended."""
        waiting = set(self.caller.accepted)

        def none_left() -> bool:
            waiting.difference_update([found for found in waiting if self._has_ended(found)])
            return not waiting

        until(none_left, "accepted requests to end", timeout_s, pause_s=0.2)

    def wait_until_ready(self, timeout_s: float = 60) -> None:
        """Wait until every gateway sees every worker."""
        for number in range(len(self.gateways)):
            until(lambda number=number: self._sees_workers(number), "the workers to be ready", timeout_s)

    @contextmanager
    def more_workers(self, count: int) -> Iterator[None]:
        """Have more workers, kept alive, for as long as the block lasts."""
        added = [_worker(len(self.workers) + number, self.environment, self.folder) for number in range(count)]
        for member in added:
            member.start()
        self.workers = [*self.workers, *added]  # the cluster's own keeper must not see them
        try:
            with Keeper(added):
                yield
        finally:
            for member in added:
                member.end()

    def audit(self, *, pictures: bool = True) -> list[str]:
        """What the audit finds now; see `tests.faults.audit`."""
        return audit(self.redis, self.caller, self.runs if pictures else None)

    def _has_ended(self, request_id: str) -> bool:
        client = self.replicated.client if self.replicated else self.redis.client
        status = client.hget(f"facelight:request:{request_id}", "status")
        return status is None or is_final(status.decode())

    def _sees_workers(self, gateway: int) -> bool:
        answer = self.caller.call("GET", "/health/ready", gateway)
        alive = sum(worker.alive for worker in self.workers)
        return answer.code in (200, 503) and answer.body["workers"] >= alive


@contextmanager
def cluster(
    gateways: int = 1,
    workers: int = 1,
    *,
    keep: bool = True,
    shim: bool = False,
    replicated: bool = False,
    metrics: bool = False,
    **settings: object,
) -> Iterator[Cluster]:
    """Run one. `settings` are FACELIGHT_* variables without the prefix; `keep` starts dead workers again.

    `metrics`: each process tells its metrics on a port of its own.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="facelight-faults-")))
        redis = RedisMember(folder)
        nodes = ReplicatedRedis(folder) if replicated else None
        stack.callback((nodes or redis).end)
        (nodes or redis).start()
        proxy = stack.enter_context(Shim(redis.socket)) if shim else None
        environment = _environment(folder, (proxy or nodes or redis).url, settings)
        doors = [_gateway(number, environment, folder) for number in range(gateways)]
        hands = [_worker(number, environment, folder) for number in range(workers)]
        for member in (*doors, *hands):
            if metrics:
                member.environment["FACELIGHT_METRICS_PORT"] = str(free_port())
            stack.callback(member.end)
            member.start()
        if keep:
            stack.enter_context(Keeper(hands))
        caller = Caller([f"http://127.0.0.1:{_port(door)}" for door in doors])
        made = Cluster(folder, redis, doors, hands, caller, RunLog(folder / "data"), environment, proxy, nodes)
        made.wait_until_ready()
        yield made


def _environment(folder: Path, redis_url: str, settings: dict[str, object]) -> dict[str, str]:
    (folder / "data").mkdir()
    words = {**_SETTINGS, "redis_url": redis_url, "data_dir": str(folder / "data"), **settings}
    return {f"FACELIGHT_{name.upper()}": str(value) for name, value in words.items()}


def _gateway(number: int, environment: dict[str, str], folder: Path) -> Member:
    port = {"FACELIGHT_PORT": str(free_port())}
    return Member(f"gateway-{number}", _module("gateway_with_fake_clock"), {**environment, **port}, folder)


def _worker(number: int, environment: dict[str, str], folder: Path) -> Member:
    return Member(f"worker-{number}", _module("fake_worker"), environment, folder)


def _port(gateway: Member) -> str:
    return gateway.environment["FACELIGHT_PORT"]


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"tests.faults.processes.{name}")
