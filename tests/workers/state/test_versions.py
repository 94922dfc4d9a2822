"""Records of other versions: what can be read is served, what cannot is refused in words or left to others."""

from __future__ import annotations

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from tests.workers.state.support import claim, complete, wakeups_key
from workers.errors import OtherVersion
from workers.state.janitor import Janitor
from workers.state.record import Output, Status
from workers.state.records import Records
from workers.state.registry import ModelReport, ModelState, WorkerRegistry, WorkerReport
from workers.state.scripts import new_call_id
from workers.state.versions import READABLE, RECORD_VERSION
from workers.store.base import Store

QUEUE = ("ic-light", "foreground")


def create(records: Records, redis: Redis, request_id: str, **fields: object) -> None:
    records.create(request_id, *QUEUE, "", {})
    for name, value in fields.items():
        redis.hset(f"facelight:request:{request_id}", name, str(value))


def test_this_version_reads_what_it_writes(records: Records, redis: Redis) -> None:
    create(records, redis, "a")
    assert redis.hget("facelight:request:a", "version") == str(RECORD_VERSION).encode()
    assert max(READABLE) == RECORD_VERSION
    assert records.get("a") is not None


def test_records_from_before_there_were_versions_are_served(records: Records, redis: Redis) -> None:
    create(records, redis, "a")
    redis.hdel("facelight:request:a", "version")
    assert claim(records, *QUEUE, "worker") is not None


def test_unknown_fields_are_kept(records: Records, redis: Redis) -> None:
    create(records, redis, "a", shade="blue")
    record = claim(records, *QUEUE, "worker")
    assert record is not None
    assert records.requeue(record)
    record = claim(records, *QUEUE, "worker")
    assert record is not None
    assert complete(records, record, (Output("name.png", "image/png", 10, 32, 32),), 1.0)
    assert redis.hget("facelight:request:a", "shade") == b"blue"


def test_newer_records_are_left_to_newer_workers(
    records: Records, redis: Redis, registry: WorkerRegistry, store: Store
) -> None:
    create(records, redis, "newer", version=RECORD_VERSION + 1)
    create(records, redis, "mine")
    record = claim(records, *QUEUE, "worker")
    assert record is not None
    assert record.request_id == "mine"
    assert records.fail(record, "done with")
    redis.delete(wakeups_key(*QUEUE))
    assert claim(records, *QUEUE, "worker") is None
    Janitor(records, store, registry, max_attempts=2).run_once()
    assert redis.llen(wakeups_key(*QUEUE)) == 1, "newer workers are called again"
    assert redis.hget("facelight:request:newer", "status") == b"QUEUED"
    with pytest.raises(OtherVersion, match="a newer version"):
        records.get("newer")
    with pytest.raises(OtherVersion):
        records.cancel("newer")
    assert redis.hget("facelight:request:newer", "status") == b"FAILED", "cancelled all the same"


def test_newer_records_are_in_no_batch(records: Records, redis: Redis) -> None:
    for number in range(16):
        records.create(str(number), *QUEUE, "", {}, batch_hint="same")
    redis.hset("facelight:request:1", "version", RECORD_VERSION + 1)
    claimed = records.claim_batch([QUEUE], "worker", new_call_id(), max_size=3, wakeup=b"none")
    assert [record.request_id for record in claimed] == ["0", "2", "3"]


def test_a_long_row_of_newer_records_is_not_searched_to_its_end(records: Records, redis: Redis) -> None:
    for number in range(100):
        create(records, redis, str(number), version=RECORD_VERSION + 1)
    create(records, redis, "mine")
    assert claim(records, *QUEUE, "worker") is None
    records.cancel("mine")
    redis.hset("facelight:request:50", "version", RECORD_VERSION)
    record = claim(records, *QUEUE, "worker")
    assert record is not None
    assert record.request_id == "50"


def test_a_version_that_is_no_longer_read_fails_in_words(records: Records, redis: Redis) -> None:
    create(records, redis, "a", version=min(READABLE) - 1)
    assert claim(records, *QUEUE, "worker") is None
    assert redis.hmget("facelight:request:a", "status", "error") == [
        Status.FAILED.encode(),
        b"The request was accepted by an older version of the server, and cannot be read by this one.",
    ]


def test_a_newer_queue_is_refused(records: Records, redis: Redis) -> None:
    create(records, redis, "a")
    assert 0 < redis.ttl("facelight:version") <= 87_000
    redis.set("facelight:version", 2)
    for step in (
        lambda: records.create("b", *QUEUE, "", {}),
        lambda: claim(records, *QUEUE, "worker"),
        lambda: records.audit(0, 10),
        lambda: records.reconcile_wakeups(QUEUE),
    ):
        with pytest.raises(ResponseError, match="written by a newer facelight; this one knows version 1"):
            step()
    assert redis.hget("facelight:request:a", "status") == b"QUEUED"


def test_reports_with_more_or_fewer_fields(registry: WorkerRegistry, redis: Redis) -> None:
    report = WorkerReport("worker", "cpu", {"ic-light": ModelReport(ModelState.READY, "demo", "", ("foreground",))})
    registry.heartbeat(report)
    raw = redis.get("facelight:worker:worker")
    redis.set("facelight:worker:worker", raw.replace(b'"fallback": ""', b'"shade": "blue"'))
    assert registry.live_workers() == [report]
