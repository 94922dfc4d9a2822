"""The statistics of all requests, read in one step from a real Redis."""

from __future__ import annotations

import time
from types import MappingProxyType

import pytest
from redis import Redis

from tests.workers.state.support import claim
from workers.state.record import FailureReason, QueueLimits, Record, Result
from workers.state.records import Records
from workers.state.statistics import StatisticsReader

QUEUE = ("ic-light", "foreground")
OTHER = ("pulid-lightning", "artistic")


@pytest.fixture
def statistics(redis: Redis) -> StatisticsReader:
    return StatisticsReader(redis)


def submit(records: Records, request_id: str, owner: str = "owner", queue: tuple[str, str] = QUEUE) -> None:
    records.create(request_id, *queue, owner, {})


def age(redis: Redis, request_id: str, seconds: float) -> None:
    """As if the request had been accepted so much earlier."""
    accepted_at = float(redis.hget(f"facelight:request:{request_id}", "created_at") or 0)
    redis.hset(f"facelight:request:{request_id}", "created_at", str(accepted_at - seconds))


def take(records: Records) -> Record:
    record = claim(records, *QUEUE, "worker")
    assert record is not None
    return record


def test_an_empty_redis_has_nothing_of_anything(statistics: StatisticsReader) -> None:
    found = statistics.read()
    assert set(found.waiting.values()) == {0} and set(found.oldest_s.values()) == {0.0}
    assert not found.running and not found.paused and not found.counts
    assert found.count("ic-light", "accepted") == 0


def test_waiting_and_running_are_told_apart(statistics: StatisticsReader, records: Records, redis: Redis) -> None:
    for number in range(3):
        submit(records, f"r{number}")
    submit(records, "other", queue=OTHER)
    take(records)
    found = statistics.read()
    assert (found.waiting[QUEUE], found.waiting[OTHER], sum(found.waiting.values())) == (2, 1, 3)
    assert found.running == {"ic-light": 1}
    redis.set("rq:suspended", 1)
    assert statistics.read().paused


def test_the_oldest_waiting_request_is_found_among_owners(
    statistics: StatisticsReader, records: Records, redis: Redis
) -> None:
    """A request of an owner with few stands far in front of older ones, and is not the oldest."""
    for number in range(20):
        submit(records, f"bulk-{number}", "busy")
        age(redis, f"bulk-{number}", 100 - number)
    for number in range(3):
        submit(records, f"late-{number}", f"owner-{number}")
    for oldest in (100, 99):
        assert statistics.read().oldest_s[QUEUE] == pytest.approx(oldest, abs=1)
        while take(records).owner != "busy":
            pass
    assert statistics.read().oldest_s[OTHER] == 0


def test_a_requeued_request_is_as_old_as_it_was(statistics: StatisticsReader, records: Records, redis: Redis) -> None:
    for number in range(3):
        submit(records, f"r{number}")
    age(redis, "r0", 50)
    assert records.requeue(take(records))
    assert statistics.read().oldest_s[QUEUE] == pytest.approx(50, abs=1)


def test_time_on_the_device_is_a_running_mean_by_variant(statistics: StatisticsReader, records: Records) -> None:
    for number in range(60):
        submit(records, f"r{number}")
        assert records.complete([Result(take(records), (), 1.0, MappingProxyType({}), 4.0 if number < 30 else 2.0)])
        if number == 0:
            assert statistics.read().count("ic-light", "device_s", "foreground") == 4.0
    mean = statistics.read().count("ic-light", "device_s", "foreground")
    assert 2.0 < mean < 2.6
    submit(records, "failed")
    records.fail(take(records), "no", 9.0, FailureReason.MODEL)
    assert statistics.read().count("ic-light", "device_s", "foreground") == mean


def test_reading_ten_thousand_waiting_requests_takes_no_scan(
    statistics: StatisticsReader, records: Records, redis: Redis
) -> None:
    """Ten thousand owners have all the same start tag: the worst case for finding the oldest."""
    with redis.pipeline(transaction=False) as pipeline:
        for number in range(10_000):
            pipeline.zadd("facelight:waiting:ic-light:foreground", {f"{number:015}:owner-{number}:r{number}": 1})
        pipeline.hset("facelight:request:r0", "created_at", str(records.now() - 70))
        pipeline.execute()
    statistics.read()
    redis.config_resetstat()
    began = time.perf_counter()
    found = statistics.read()
    assert time.perf_counter() - began < 0.1
    assert found.waiting[QUEUE] == 10_000 and found.oldest_s[QUEUE] == pytest.approx(70, abs=1)
    calls = redis.info("commandstats")["cmdstat_zrangebyscore"]["calls"]
    assert calls <= 5, "steps that do not depend on how many wait"


def test_limits_refuse_without_counting(statistics: StatisticsReader, records: Records) -> None:
    submit(records, "first")
    with pytest.raises(Exception, match="waiting"):
        records.create("second", *QUEUE, "owner", {}, limits=QueueLimits(queue=1))
    assert statistics.read().count("ic-light", "accepted") == 1
