"""A gateway that finds its Redis by Sentinels: what it accepts is on a replica, and outlives the master."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from server.settings import GatewaySettings
from tests.faults.processes.replication import ReplicatedRedis
from tests.faults.processes.waiting import until
from tests.server.conftest import NEVER
from tests.server.support import Client, FakeWorker, body_for, serving
from tests.workers.state.support import unfinished
from workers.state.connection import NotReplicated, connect, connect_blocking
from workers.state.record import Idempotency, Status
from workers.state.records import Records


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[ReplicatedRedis]:
    """A master and a replica; one Sentinel, which is in a hurry."""
    made = ReplicatedRedis(tmp_path, replicas=1, sentinels=1, down_after_ms=500, min_replicas=0)
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
def settings(replicated: ReplicatedRedis, tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(redis_url=replicated.url, data_dir=tmp_path / "data", janitor_interval_s=NEVER)


def _submit(client: Client, key: str) -> tuple[int, str]:
    answer = client.post("/v2/ic-light", json=body_for("ic-light"), headers={"Idempotency-Key": key} if key else {})
    return answer.status_code, answer.json().get("request_id", "")


@pytest.mark.slow
def test_what_was_accepted_outlives_the_master(replicated: ReplicatedRedis, settings: GatewaySettings) -> None:
    with serving(settings) as client:
        worker, accepted = FakeWorker(settings), client.submit()
        first = replicated.master
        first.kill()
        assert client.post("/v2/ic-light", json=body_for("ic-light")).status_code == 503
        until(lambda: replicated.promoted(first), "the replica to be promoted", 20)
        # No replica is left: it can be read, and nothing more is accepted.
        until(lambda: client.get(f"/v2/requests/{accepted}/status").status_code == 200, "calls to be answered", 10)
        assert _submit(client, "")[0] == 503
        first.start()
        first.client.replicaof("127.0.0.1", replicated.master.port)  # the Sentinel would do so after 8 s
        until(lambda: _submit(client, "once")[0] == 200, "a submission", 20)
        for request_id in unfinished(worker.redis):
            worker.complete(request_id)
        assert client.get(f"/v2/requests/{accepted}").json()["status"] == "COMPLETED"
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(client.post, "/v1/ic-light", json=body_for("ic-light"))
            worker.complete(worker.await_request("ic-light"))
            assert call.result(5).status_code == 200, "the new master tells of completions"


def test_nothing_is_accepted_that_no_replica_holds(replicated: ReplicatedRedis, settings: GatewaySettings) -> None:
    (replica,) = replicated.replicas
    with serving(settings) as client:
        worker, waiting = FakeWorker(settings), client.submit()
        replica.send(signal.SIGSTOP)
        began = time.monotonic()
        assert _submit(client, "") == (503, "")
        assert time.monotonic() - began < 5
        assert unfinished(worker.redis) == [waiting], "it was cancelled: its caller does not know it"
        stored = [path for path in Path(settings.store_location).rglob("*") if path.is_file()]
        assert len(stored) == 1, "the picture of the one that waits"
        assert _submit(client, "once") == (503, "")
        assert _submit(client, "once") == (503, ""), "no call is told of it before a replica has it"
        assert client.get(f"/v2/requests/{waiting}/status").status_code == 200, "reading goes on"
        replica.send(signal.SIGCONT)
        until(lambda: _submit(client, "once")[0] == 200, "the replica to follow", 10)
        (repeated,) = [found for found in unfinished(worker.redis) if found != waiting]
        assert _submit(client, "once") == (200, repeated), "the first of the three calls has made it"
        for request_id in (waiting, repeated):
            worker.complete(request_id)
            assert client.get(f"/v2/requests/{request_id}").json()["status"] == "COMPLETED"


@pytest.mark.slow
def test_a_repeated_step_waits_for_the_replica_too(replicated: ReplicatedRedis) -> None:
    """A step that finds its work done writes nothing, and another connection may have written it."""
    (replica,) = replicated.replicas
    replica.send(signal.SIGSTOP)
    for _ in range(2):
        with pytest.raises(NotReplicated):
            _records(replicated.url).create("a", "ic-light", "foreground", "", {}, idempotency=Idempotency("k", "f"))
    replica.send(signal.SIGCONT)
    made = _records(replicated.url).create("b", "ic-light", "foreground", "", {}, idempotency=Idempotency("k", "f"))
    assert made == "a"
    found = Records(Redis(port=replica.port), 3600, 86_400).get("a")
    assert found is not None
    assert found.status is Status.QUEUED


def test_waiting_for_replicas_can_be_turned_off(replicated: ReplicatedRedis) -> None:
    (replica,) = replicated.replicas
    replica.kill()
    assert _records(f"{replicated.url}?replicas=0").create("a", "ic-light", "foreground", "", {}) == "a"
    with pytest.raises(NotReplicated):
        _records(replicated.url).create("b", "ic-light", "foreground", "", {})


@pytest.mark.slow
def test_a_silent_master_is_left(replicated: ReplicatedRedis) -> None:
    """It keeps its connections open: the one whose reply did not come is not used again."""
    first = replicated.master
    with connect_blocking(replicated.url, 0.5) as redis:
        assert redis.ping()
        first.send(signal.SIGSTOP)
        with pytest.raises(RedisTimeoutError):
            redis.ping()
        until(lambda: replicated.promoted(first), "the replica to be promoted", 20)
        assert redis.ping()


@pytest.mark.slow
def test_one_sentinel_is_enough(replicated: ReplicatedRedis) -> None:
    away = replicated.url.replace("//", "//127.0.0.1:1,127.0.0.1:2,", 1)
    with connect(away) as redis:
        assert redis.ping()
    replicated.sentinels[0].kill()
    with connect(away) as redis, pytest.raises(RedisError, match="no Sentinel names a master"):
        redis.ping()


@pytest.mark.slow
def test_passwords_of_both(tmp_path: Path) -> None:
    password = "not-a-secret-of-anybody"
    made = ReplicatedRedis(tmp_path, replicas=1, sentinels=1, password=password)
    try:
        made.start()
        for_redis = made.url.replace("//", f"//:{password}@", 1)
        for url in (f"{made.url}?sentinel_password={password}", for_redis):
            with connect(url) as redis, pytest.raises(RedisError, match=r"(?i)auth"):
                redis.ping()
        with connect(f"{for_redis}?sentinel_password={password}") as redis:
            assert redis.ping()
    finally:
        made.end()


def _records(url: str) -> Records:
    return Records(connect(url), 3600, 86_400)
