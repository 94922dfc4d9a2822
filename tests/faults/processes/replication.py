"""A master with replicas, and Sentinels that watch them, as docs/redis.md sets them up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.faults.processes.members import Member
from tests.faults.processes.waiting import until
from tests.live_server import free_port
from tests.redis_server import REDIS_SERVER

SERVICE = "facelight"


class Node(Member):
    """A redis-server that is master or replica."""

    def __init__(self, name: str, folder: Path, options: dict[str, str]) -> None:
        self.port = free_port()
        directory = folder / name
        directory.mkdir()
        words = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": "0",
            **options,
        }
        configuration = folder / f"{name}.conf"  # which Sentinels write anew
        configuration.write_text("".join(f"{key} {value}\n" for key, value in words.items() if value))
        super().__init__(name, [REDIS_SERVER, str(configuration)], {}, folder)
        self.client = _client(self.port, options.get("requirepass", ""))

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        until(lambda: _answers(self.client), self.name, timeout_s=30, pause_s=0.01)

    @property
    def replication(self) -> dict[str, Any]:
        """What it says of its part; empty if it does not answer."""
        try:
            return dict(self.client.info("replication"))
        except RedisError:
            return {}


class ReplicatedRedis:
    """Takes the place of a `RedisMember` in a cluster."""

    def __init__(
        self,
        folder: Path,
        replicas: int = 2,
        sentinels: int = 3,
        down_after_ms: int = 2000,
        min_replicas: int = 1,
        password: str = "",
    ) -> None:
        self._password = password
        options = {"min-replicas-to-write": str(min_replicas), "requirepass": password, "masterauth": password}
        first = Node("redis-0", folder, options)
        follow = {**options, "replicaof": f"127.0.0.1 {first.port}"}
        self.nodes = [first, *(Node(f"redis-{number}", folder, follow) for number in range(1, replicas + 1))]
        self._ports = [free_port() for _ in range(sentinels)]
        watched = {
            "monitor": f"127.0.0.1 {first.port} {sentinels // 2 + 1}",
            "down-after-milliseconds": str(down_after_ms),
            "failover-timeout": "10000",
            "parallel-syncs": "2",
            "auth-pass": password,
        }
        self.sentinels = [_sentinel(number, folder, port, watched) for number, port in enumerate(self._ports)]

    @property
    def url(self) -> str:
        """As gateways and workers get it; passwords are left out."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self._ports)}/{SERVICE}/0"

    @property
    def master(self) -> Node:
        """The node that the first Sentinel names."""
        _, port = self._sentinel_client.sentinel_get_master_addr_by_name(SERVICE)
        return next(node for node in self.nodes if node.port == port)

    @property
    def replicas(self) -> list[Node]:
        """All other nodes."""
        master = self.master
        return [node for node in self.nodes if node is not master]

    @property
    def client(self) -> Any:
        """Of the master; answers bytes."""
        return self.master.client

    def start(self) -> None:
        """Start all, and wait until the Sentinels know each other and all nodes."""
        for node in self.nodes:
            node.start()
        for sentinel in self.sentinels:
            sentinel.start()
        until(self._is_complete, "replicas and Sentinels to be connected", timeout_s=60)

    def end(self) -> None:
        """End all."""
        for member in (*self.sentinels, *self.nodes):
            member.end()

    def promoted(self, before: Node) -> bool:
        """Whether another node has become the master."""
        return self.master is not before and self.master.replication.get("role") == "master"

    def await_replicas(self) -> None:
        """Wait until all nodes run, and all but the master follow it."""
        until(self._is_complete, "all replicas to follow the master", timeout_s=60)

    def _is_complete(self) -> bool:
        try:
            return all(self._incomplete())
        except RedisError:
            return False

    def _incomplete(self) -> Iterator[bool]:
        followers = len(self.nodes) - 1
        master = self.master.replication
        yield master.get("role") == "master" and master.get("connected_slaves") == followers
        for number in range(followers):
            yield master[f"slave{number}"]["state"] == "online"
        for port in self._ports:
            with _client(port, self._password) as sentinel:
                state = sentinel.sentinel_master(SERVICE)
                yield state["num-other-sentinels"] == len(self._ports) - 1
                known = sentinel.sentinel_slaves(SERVICE)
                yield len(known) == followers
                yield all(not slave["is_sdown"] for slave in known)

    @property
    def _sentinel_client(self) -> Any:
        return _client(self._ports[0], self._password)


def _client(port: int, password: str) -> Any:
    return Redis(port=port, password=password or None, retry=Retry(NoBackoff(), 0), socket_timeout=5)


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def _sentinel(number: int, folder: Path, port: int, watched: dict[str, str]) -> Member:
    """It asks for the password of the master itself."""
    lines = [f"sentinel {key} {SERVICE} {value}" for key, value in watched.items() if value]
    password = watched["auth-pass"]
    own = [f"port {port}", "bind 127.0.0.1", f"dir {folder}", *([f"requirepass {password}"] if password else [])]
    configuration = folder / f"sentinel-{number}.conf"
    configuration.write_text("\n".join([*own, *lines, ""]))
    return Member(f"sentinel-{number}", [REDIS_SERVER, str(configuration), "--sentinel"], {}, folder)
