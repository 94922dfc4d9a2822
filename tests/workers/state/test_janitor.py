"""What crashes leave behind is repaired, once, and what is well is left alone."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.workers.state.support import claim, unfinished, wakeups_key
from workers.state.janitor import Janitor
from workers.state.record import Record, Status
from workers.state.records import Records
from workers.state.registry import ModelReport, ModelState, WorkerRegistry, WorkerReport
from workers.store.base import Store

ALIVE = WorkerReport("alive", "cpu", {"ic-light": ModelReport(ModelState.READY, "demo")}, requests=("r1",))


@pytest.fixture
def janitor(records: Records, store: Store, registry: WorkerRegistry) -> Janitor:
    registry.heartbeat(ALIVE)
    return Janitor(records, store, registry, max_attempts=2)


def begin(records: Records, worker: str, request_id: str = "r1", **params: str) -> Record:
    """Bring a request to PROCESSING."""
    records.create(request_id, "ic-light", "foreground", "", params)
    record = claim(records, "ic-light", "foreground", worker)
    assert record is not None
    return record


def state(records: Records, request_id: str = "r1") -> Status:
    record = records.get(request_id)
    assert record is not None
    return record.status


def wakeups(redis: Redis, *queue_key: str) -> int:
    return redis.llen(wakeups_key(*(queue_key or ("ic-light", "foreground"))))


def lose_wakeups(redis: Redis) -> None:
    """As if the worker that popped them had died."""
    redis.delete(wakeups_key("ic-light", "foreground"))


def test_a_request_of_a_dead_worker_is_requeued(janitor: Janitor, records: Records, redis: Redis) -> None:
    begin(records, "dead")
    lose_wakeups(redis)
    janitor.run_once()
    assert state(records) is Status.QUEUED
    assert wakeups(redis) == 1
    janitor.run_once()
    assert wakeups(redis) == 1, "a second round finds nothing to repair"


def test_a_request_goes_back_to_its_own_queue(janitor: Janitor, records: Records, redis: Redis) -> None:
    records.create("r1", "pulid-lightning", "artistic", "", {"face_image": "x"})
    assert claim(records, "pulid-lightning", "artistic", "dead")
    janitor.run_once()
    assert records.waiting("pulid-lightning", "artistic") == 1
    assert wakeups(redis, "pulid-lightning", "artistic") == 1


def test_a_request_that_kills_its_workers_fails(janitor: Janitor, records: Records, store: Store) -> None:
    name = store.put(b"x", "bin", 600)
    begin(records, "dead", subject_image=name)
    janitor.run_once()
    assert store.find(name), "it is tried once more"
    assert claim(records, "ic-light", "foreground", "dead too")
    janitor.run_once()
    record = records.get("r1")
    assert record is not None
    assert (record.status, record.error) == (Status.FAILED, "The worker died on this request, 2 times in a row.")
    assert store.find(name) is None


def test_a_cancelled_request_of_a_dead_worker_ends(janitor: Janitor, records: Records, store: Store) -> None:
    name = store.put(b"x", "bin", 600)
    begin(records, "dead", subject_image=name)
    records.cancel("r1")
    janitor.run_once()
    record = records.get("r1")
    assert record is not None
    assert (record.status, record.error) == (Status.FAILED, "The request was cancelled.")
    assert store.find(name) is None


def test_a_request_of_a_live_worker_stays(janitor: Janitor, records: Records) -> None:
    begin(records, "alive")
    janitor.run_once()
    assert state(records) is Status.PROCESSING


def test_all_requests_in_flight_of_a_dead_worker_are_requeued(
    janitor: Janitor, records: Records, registry: WorkerRegistry
) -> None:
    """One in work, one behind it, one ahead; and what a live worker has in flight is left alone."""
    registry.heartbeat(replace(ALIVE, requests=("r3", "r4")))
    for number, worker in enumerate(["dead", "dead", "dead", "alive", "alive"]):
        begin(records, worker, f"r{number}")
    janitor.run_once()
    assert [state(records, f"r{number}").name[0] for number in range(5)] == ["Q", "Q", "Q", "P", "P"]


def test_a_request_that_its_live_worker_does_not_report_is_requeued(
    records: Records, store: Store, redis: Redis
) -> None:
    """Redis has lost its last second, and with it the end of the request."""
    registry = WorkerRegistry(redis, ttl_s=1)
    janitor = Janitor(records, store, registry, max_attempts=2)
    begin(records, "alive")
    registry.heartbeat(replace(ALIVE, requests=()))
    janitor.run_once()
    assert state(records) is Status.PROCESSING, "its report may be older than the request"
    time.sleep(1.1)
    registry.heartbeat(replace(ALIVE, requests=()))
    janitor.run_once()
    assert state(records) is Status.QUEUED


def test_after_an_outage_workers_have_time_for_a_heartbeat(
    records: Records, store: Store, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    janitor = Janitor(records, store, WorkerRegistry(redis, ttl_s=1), max_attempts=2)
    begin(records, "silent")
    with monkeypatch.context() as patch, pytest.raises(RedisError):
        patch.setattr(records, "running", lambda: redis.execute_command("NONSENSE"))
        janitor.run_once()
    janitor.run_once()
    assert state(records) is Status.PROCESSING
    time.sleep(1.1)
    janitor.run_once()
    assert state(records) is Status.QUEUED


def test_lost_wakeups_are_added(janitor: Janitor, records: Records, redis: Redis) -> None:
    """Workers died between wakeup and claim."""
    for number in range(3):
        records.create(f"r{number}", "ic-light", "foreground", "", {})
    redis.lpop(wakeups_key("ic-light", "foreground"), 2)
    janitor.run_once()
    janitor.run_once()
    assert wakeups(redis) == 3


def test_surplus_wakeups_are_removed(janitor: Janitor, redis: Redis) -> None:
    redis.rpush(wakeups_key("ic-light", "foreground"), *map(str, range(150)))
    janitor.run_once()
    assert wakeups(redis) == 100


def test_queued_requests_in_no_queue_are_enqueued(janitor: Janitor, records: Records, redis: Redis) -> None:
    records.create("r1", "ic-light", "foreground", "", {})
    redis.delete("facelight:waiting:ic-light:foreground")
    janitor.run_once()
    assert wakeups(redis) == records.depth("ic-light") == 1


def test_rounds_audit_all_requests_in_turn(
    janitor: Janitor, records: Records, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.state.janitor._AUDITED", 2)
    for number in range(5):
        records.create(f"r{number}", "ic-light", "foreground", "", {})
    redis.delete("facelight:waiting:ic-light:foreground")
    for expected in (2, 4, 5):
        janitor.run_once()
        assert records.depth("ic-light") == expected


def test_ids_of_expired_records_leave_the_lists(janitor: Janitor, records: Records, redis: Redis) -> None:
    begin(records, "dead")
    redis.delete("facelight:request:r1")
    janitor.run_once()
    assert unfinished(redis) == records.running() == []


def test_a_damaged_record_does_not_keep_others_from_being_repaired(
    janitor: Janitor, records: Records, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    begin(records, "dead", "damaged")
    begin(records, "dead too")
    redis.hset("facelight:request:damaged", "params", "not json")
    with caplog.at_level(logging.ERROR):
        janitor.run_once()
    assert "the record is damaged" in caplog.text
    assert state(records) is Status.QUEUED


def test_expired_files_are_purged(janitor: Janitor, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(b"x", "bin", -302)
    purged = list[int]()
    purge = store.purge_expired
    monkeypatch.setattr(store, "purge_expired", lambda: purged.append(purge()))
    janitor.run_once()
    janitor.run_once()
    assert purged == [1], "and not at every round"
