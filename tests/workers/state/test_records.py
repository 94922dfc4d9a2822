"""Every state transition is atomic and checks state, attempt and worker; final states are final."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.workers.state.support import claim, complete, is_alive, unfinished
from workers.errors import IdempotencyConflict, OutOfCredits, QueueFull
from workers.state.connection import is_outage
from workers.state.keys import Keys
from workers.state.record import FailureReason, Idempotency, Output, QueueLimits, Record, Status
from workers.state.records import Records
from workers.state.registry import WorkerRegistry, WorkerReport
from workers.state.scripts import CHANGES_PREFIX, FINISHED_CHANNEL, new_call_id
from workers.state.suspension import resume, suspend

PARAMS = {"prompt": "a “quoted” prompt \N{GRINNING FACE}", "seed": 2**53 - 1, "cfg": 1.5}
WAKEUPS = "rq:queue:facelight-ic-light-foreground"
OUTPUTS = (Output("a" * 32 + ".png", "image/png", 1234, 64, 32),)


def created(records: Records, request_id: str = "r1", owner: str = "owner") -> Record:
    assert records.create(request_id, "ic-light", "foreground", owner, PARAMS) == request_id
    return found(records, request_id)


def found(records: Records, request_id: str = "r1") -> Record:
    record = records.get(request_id)
    assert record is not None
    return record


def claimed(records: Records, worker: str = "worker-a") -> Record:
    record = claim(records, "ic-light", "foreground", worker)
    assert record is not None
    return record


def claimed_batch(records: Records, max_size: int = 4, claim_id: str | None = None) -> list[Record]:
    """Claim as a worker does that popped a wakeup."""
    return records.claim_batch([("ic-light", "foreground")], "worker-a", claim_id or new_call_id(), max_size, b"wakeup")


def started(records: Records, request_id: str = "r1") -> Record:
    created(records, request_id)
    record = claimed(records)
    assert record.request_id == request_id
    return record


def order(records: Records) -> list[str]:
    """Claim all that are QUEUED, each by another worker."""
    ids = list[str]()
    while record := claim(records, "ic-light", "foreground", f"worker-{len(ids)}"):
        ids.append(record.request_id)
    return ids


def test_a_new_record_is_queued_and_complete(records: Records) -> None:
    record = created(records)
    assert (record.status, record.slug, record.owner, record.attempt) == (Status.QUEUED, "ic-light", "owner", 0)
    assert (record.variant, record.cost, record.step, record.cancel_requested) == ("foreground", 0.0, 0, False)
    assert record.params == PARAMS
    assert abs(record.created_at - time.time()) < 5
    assert record.queue_time is None
    assert record.total_time is None


def test_an_unknown_record_is_none(records: Records) -> None:
    assert records.get("nobody") is None
    assert claim(records, "ic-light", "foreground", "worker-a") is None
    assert records.cancel("nobody") is None


def test_a_request_goes_from_queue_to_result(records: Records, redis: Redis) -> None:
    record = started(records)
    assert (record.status, record.worker, record.attempt) == (Status.PROCESSING, "worker-a", 1)
    assert complete(records, record, OUTPUTS, 1.25)
    done = records.get("r1")
    assert done is not None
    assert (done.status, done.outputs, done.inference_time) == (Status.COMPLETED, OUTPUTS, 1.25)
    assert done.queue_time is not None
    assert done.total_time is not None
    assert 0 <= done.queue_time <= done.total_time < 5
    assert unfinished(redis) == []
    assert 3590 < redis.ttl("facelight:request:r1") <= 3600


def test_every_record_expires(records: Records, redis: Redis) -> None:
    """… and so does everything that Redis holds of it."""
    records.create("r1", "ic-light", "foreground", "owner", PARAMS, idempotency=Idempotency("key", "print"))
    assert 0 < redis.ttl("facelight:request:r1") <= 87_000
    assert {key for key in redis.scan_iter() if redis.ttl(key) == -1} == {b"rq:queues", b"facelight:counts"}
    claimed(records)
    assert {key for key in redis.scan_iter() if redis.ttl(key) == -1} == {b"rq:queues", b"facelight:counts"}


def test_a_request_can_fail_while_queued_and_while_processing(records: Records) -> None:
    assert records.fail(created(records, "queued"), "no room")
    assert records.depth("ic-light") == 0
    assert records.fail(started(records, "working"), "no face", 0.5)
    failed = records.get("working")
    assert failed is not None
    assert (failed.status, failed.error, failed.inference_time) == (Status.FAILED, "no face", 0.5)


def test_ends_are_counted_by_reason(records: Records, redis: Redis) -> None:
    for request_id in ("done", "also-done"):
        assert complete(records, started(records, request_id), OUTPUTS, 1.0)
    record = started(records, "late")
    for _ in range(2):  # the second changes nothing
        records.fail(record, "too slow", reason=FailureReason.DEADLINE)
    created(records, "unwanted")
    records.cancel("unwanted")
    stopped = started(records, "stopped")
    records.cancel("stopped")
    assert not complete(records, stopped, OUTPUTS, 1.0)
    assert records.requeue(started(records, "orphan"))
    assert redis.hgetall("facelight:counts") == {
        b"ic-light:COMPLETED:": b"2",
        b"ic-light:FAILED:deadline": b"1",
        b"ic-light:FAILED:cancelled": b"2",
        b"ic-light:requeued": b"1",
        b"ic-light:accepted": b"6",
        b"ic-light:device_s:foreground": b"0",
    }
    assert redis.ttl("facelight:counts") == -1


@pytest.mark.parametrize("end", [Status.COMPLETED, Status.FAILED])
def test_final_states_are_final(records: Records, end: Status) -> None:
    record = started(records)
    assert complete(records, record, OUTPUTS, 1.0) if end is Status.COMPLETED else records.fail(record, "first")
    before = records.get("r1")
    assert before is not None
    assert not complete(records, record, (), 2.0)
    assert not records.fail(record, "second")
    assert not records.fail(before, "third")
    assert not records.requeue(record)
    assert claim(records, "ic-light", "foreground", "worker-b") is None
    assert records.get("r1") == before


def test_a_worker_presumed_dead_cannot_overwrite_its_successor(records: Records) -> None:
    first = started(records)
    assert records.requeue(first)
    second = claimed(records, "worker-b")
    assert second.attempt == 2
    assert not complete(records, first, OUTPUTS, 9.0)
    assert not records.fail(first, "late")
    assert complete(records, second, OUTPUTS, 1.0)
    done = records.get("r1")
    assert done is not None
    assert done.worker == "worker-b"


def test_a_step_sent_twice_is_applied_once(records: Records) -> None:
    """The connection broke after the step and before its reply, and the client sent it again."""
    created(records)
    created(records, "next")
    claim_id = new_call_id()
    first, again = claimed_batch(records, claim_id=claim_id), claimed_batch(records, claim_id=claim_id)
    assert again == first
    assert [record.request_id for record in again] == ["r1"]
    (first,) = first
    assert complete(records, first, OUTPUTS, 1.0)
    assert claimed_batch(records, claim_id=claim_id) == [], (
        "it is not in flight any more, and the next is of another claim"
    )
    assert records.fail(claimed(records), "that was the next")
    done = records.get("r1")
    assert complete(records, first, OUTPUTS, 1.0)
    assert records.get("r1") == done
    failing = started(records, "r2")
    assert records.fail(failing, "no face")
    assert records.fail(failing, "no face")


def test_a_stale_view_changes_nothing(records: Records) -> None:
    queued = created(records)
    working = claimed(records)
    assert not records.fail(queued, "the janitor looked too early")
    for stale in (queued, replace(working, attempt=2), replace(working, worker="worker-b")):
        assert not records.requeue(stale)
        assert not complete(records, stale, OUTPUTS, 1.0)
    assert found(records) == working


def test_unfinished_requests_are_listed_oldest_first(records: Records, redis: Redis) -> None:
    for name in ("one", "two", "three"):
        created(records, name)
    records.cancel("two")
    assert unfinished(redis) == ["one", "three"]


def test_only_one_of_many_workers_claims_a_request(records: Records) -> None:
    created(records)
    won: list[Record | None] = []

    def claim_one(number: int) -> None:
        won.append(claim(records, "ic-light", "foreground", f"worker-{number}"))

    threads = [threading.Thread(target=claim_one, args=[number]) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(record is not None for record in won) == 1


def test_owners_share_the_queue_fairly(records: Records) -> None:
    for number in range(5):
        created(records, f"many-{number}", "many")
    created(records, "one", "one")
    created(records, "two-0", "two")
    created(records, "two-1", "two")
    assert order(records) == ["many-0", "one", "two-0", "many-1", "two-1", "many-2", "many-3", "many-4"]


def test_a_steady_owner_does_not_starve_the_others(records: Records) -> None:
    for number in range(4):
        created(records, f"many-{number}", "many")
    served = list[str]()
    for number in range(4):
        created(records, f"again-{number}", "again")
        served += [claimed(records, f"worker-{number}-{_}").request_id for _ in range(2)]
    assert served == ["many-0", "again-0", "many-1", "again-1", "many-2", "again-2", "many-3", "again-3"]


def test_variants_and_models_have_separate_queues(records: Records) -> None:
    created(records, "light")
    records.create("dark", "ic-light", "background", "", {})
    records.create("face", "pulid-lightning", "default", "", {})
    assert (records.depth("ic-light"), records.waiting("ic-light", "background")) == (2, 1)
    assert order(records) == ["light"]
    assert records.depth("pulid-lightning") == 1


def test_a_requeued_request_is_at_the_front(records: Records) -> None:
    lost = started(records, "lost")
    for owner in ("owner", "other"):
        created(records, f"of-{owner}", owner)
    assert records.requeue(lost)
    created(records, "late", "third")
    assert order(records) == ["lost", "of-owner", "of-other", "late"]


def test_limits_are_exact_and_change_nothing(records: Records, redis: Redis) -> None:
    limits = QueueLimits(queue=3, per_owner=2)

    def submit(request_id: str, owner: str) -> str:
        return records.create(request_id, "ic-light", "foreground", owner, {}, limits=limits)

    records.create("a-0", "ic-light", "background", "a", {}, limits=limits)
    submit("a-1", "a")
    with pytest.raises(QueueFull, match="2 requests of this API key are waiting for ic-light"):
        submit("a-2", "a")
    with pytest.raises(QueueFull, match="2 requests of this API key"):
        records.check_queue_limits("ic-light", "a", limits)
    records.check_queue_limits("ic-light", "b", limits)
    submit("b-0", "b")
    with pytest.raises(QueueFull, match="3 requests are waiting for ic-light"):
        submit("c-0", "c")
    with pytest.raises(QueueFull, match="3 requests are waiting"):
        records.check_queue_limits("ic-light", "c", limits)
    assert redis.keys("facelight:request:[abc]-2") == redis.keys("facelight:request:c-*") == []
    claimed(records)
    assert submit("c-0", "c") == "c-0", "a claimed request is not queued any more"


def test_credits_are_charged_and_refunded_once(records: Records, redis: Redis) -> None:
    keys = Keys(redis)
    owner = keys.add("alice", credits=5)[0].id

    def left() -> float | None:
        key = keys.get(owner)
        assert key is not None
        return key.credits

    records.create("r1", "ic-light", "foreground", owner, {}, cost=2.5)
    records.create("r1", "ic-light", "foreground", owner, {}, cost=2.5)
    assert (left(), found(records).cost) == (2.5, 2.5), "sent twice, paid once"
    with pytest.raises(OutOfCredits, match=r"costs 3 credits; 2\.5 are left"):
        records.create("r2", "ic-light", "foreground", owner, {}, cost=3)
    assert records.get("r2") is None
    record = claimed(records)
    assert records.fail(record, "no face")
    assert records.fail(record, "no face")
    assert left() == 5.0
    records.create("r3", "ic-light", "foreground", owner, {}, cost=5)
    assert complete(records, claimed(records), OUTPUTS, 1.0)
    assert left() == 0.0


def test_an_unmetered_key_is_neither_charged_nor_refunded(records: Records, redis: Redis) -> None:
    keys = Keys(redis)
    key = keys.add("alice")[0]
    records.create("r1", "ic-light", "foreground", key.id, {}, cost=2)
    assert found(records).cost == 0.0
    keys.change(key.id, {"credits": 1})
    records.cancel("r1")
    assert keys.get(key.id) == replace(key, credits=1.0)


def test_a_revoked_key_is_not_refunded(records: Records, redis: Redis) -> None:
    key = Keys(redis).add("alice", credits=5)[0]
    records.create("r1", "ic-light", "foreground", key.id, {}, cost=2)
    Keys(redis).revoke(key.id)
    records.cancel("r1")
    assert found(records).status is Status.FAILED
    assert redis.keys("facelight:key:*") == []


def test_fifty_calls_with_one_key_are_one_request(records: Records) -> None:
    once, ids = Idempotency("key", "print"), list[str]()

    def submit(number: int) -> None:
        ids.append(records.create(f"r{number}", "ic-light", "foreground", "owner", {}, idempotency=once))

    threads = [threading.Thread(target=submit, args=[number]) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 50
    assert set(ids) == set(order(records))
    assert len(set(ids)) == 1


def test_one_key_means_one_request_of_one_owner(records: Records, redis: Redis) -> None:
    once = Idempotency("key", "print")
    full = QueueLimits(queue=1)
    assert records.create("r1", "ic-light", "foreground", "a", {}, idempotency=once, limits=full) == "r1"
    again = records.create("r2", "ic-light", "foreground", "a", {}, idempotency=once, limits=full)
    assert again == "r1", "what was accepted needs no room"
    with pytest.raises(IdempotencyConflict):
        records.create("r3", "ic-light", "foreground", "a", {}, idempotency=Idempotency("key", "other"))
    assert records.create("r4", "ic-light", "foreground", "b", {}, idempotency=once) == "r4"
    redis.delete("facelight:request:r1")
    assert records.create("r5", "ic-light", "foreground", "a", {}, idempotency=once) == "r5", "the first is gone"


def test_a_waiting_request_is_cancelled_at_once(records: Records) -> None:
    created(records)
    record = records.cancel("r1")
    assert record is not None
    assert (record.status, record.error) == (Status.FAILED, "The request was cancelled.")
    assert claim(records, "ic-light", "foreground", "worker-a") is None
    assert records.depth("ic-light") == 0


def test_a_running_request_is_cancelled_by_its_worker(records: Records) -> None:
    record = started(records)
    assert not records.report(record, 1, 4)
    cancelled = records.cancel("r1")
    assert cancelled is not None
    assert (cancelled.status, cancelled.cancel_requested) == (Status.PROCESSING, True)
    assert records.report(record, 2, 4)
    assert not complete(records, record, OUTPUTS, 1.0), "it had not seen the cancellation"
    assert (found(records).status, found(records).error) == (Status.FAILED, "The request was cancelled.")


def test_a_finished_request_cannot_be_cancelled(records: Records) -> None:
    assert complete(records, started(records), OUTPUTS, 1.0)
    assert records.cancel("r1") == found(records)
    assert found(records).status is Status.COMPLETED


def test_a_cancelled_request_is_not_requeued(records: Records) -> None:
    record = started(records)
    records.cancel("r1")
    assert not records.requeue(record)
    assert (found(records).status, found(records).error) == (Status.FAILED, "The request was cancelled.")


def test_progress_is_that_of_the_attempt(records: Records) -> None:
    first = started(records)
    records.report(first, 3, 25)
    assert (found(records).step, found(records).total) == (3, 25)
    records.requeue(first)
    assert (found(records).step, found(records).total) == (0, 0)
    claimed(records, "worker-b")
    records.report(first, 9, 25)
    assert found(records).step == 0, "the first attempt is over"


def test_requests_of_one_batch_hint_are_claimed_together_from_a_long_queue(records: Records) -> None:
    for number in range(24):
        records.create(f"r{number:02}", "ic-light", "foreground", "", {}, batch_hint="512x640")
    assert [len(claimed_batch(records, most)) for most in (1, 2, 8)] == [1, 2, 3], "21 wait: at most 1 + 21 // 8"
    assert len(claimed_batch(records, 8)) == 3
    assert [len(claimed_batch(records, 8)) for _ in range(5)] == [2] * 4 + [1]
    assert len(claimed_batch(records, 8)) == 1, "a short queue is served one by one"


def test_a_batch_is_claimed_in_order(records: Records) -> None:
    shapes = ["a", "a", "b", "a", "", "", *"c" * 60]
    for number, shape in enumerate(shapes):
        records.create(f"r{number:02}", "ic-light", "foreground", "", {}, batch_hint=shape)
    found = [[record.request_id for record in claimed_batch(records, 4)] for _ in range(6)]
    assert found[:5] == [["r00", "r01"], ["r02"], ["r03"], ["r04"], ["r05"]]
    assert found[5] == ["r06", "r07", "r08", "r09"]


def test_a_requeued_request_is_claimed_alone(records: Records) -> None:
    for number in range(40):
        records.create(f"r{number:02}", "ic-light", "foreground", "", {}, batch_hint="a")
    for lost in claimed_batch(records, 3):
        assert records.requeue(lost)
    assert [len(claimed_batch(records, 4)) for _ in range(4)] == [1, 1, 1, 4]


def test_without_a_wakeup_only_requests_with_one_left_are_claimed(records: Records, redis: Redis) -> None:
    queue_keys = [("pulid-lightning", "default"), ("ic-light", "foreground")]
    for number in range(20):
        records.create(f"r{number:02}", "ic-light", "foreground", "", {}, batch_hint="a")

    def ahead(**options: bool) -> list[str]:
        found = records.claim_batch(queue_keys, "worker-a", new_call_id(), 2, **options)
        return [record.request_id for record in found]

    assert ahead() == ["r00", "r01"]
    assert redis.llen(WAKEUPS) == 18, "as many wakeups as requests"
    redis.ltrim(WAKEUPS, 0, 0)
    assert ahead() == ["r02", "r03"]
    assert ahead() == [], "other workers were notified"
    redis.rpush(WAKEUPS, "wakeup")
    redis.set("rq:suspended", 1)
    assert ahead() == [], "the operator has RQ's workers wait"
    redis.delete("rq:suspended")
    assert records.requeue(found(records, "r00"))
    assert ahead(first_attempt_only=True) == []
    assert redis.llen(WAKEUPS) == 1, "the wakeup is left for the claim of a requeued request"
    assert ahead() == ["r00"]


def test_a_damaged_record_fails_and_the_next_is_served(records: Records, redis: Redis) -> None:
    created(records)
    created(records, "r2")
    redis.hset("facelight:request:r1", "params", "not json")
    assert claim(records, "ic-light", "foreground", "worker-a") is None
    assert redis.hget("facelight:request:r1", "status") == b"FAILED"
    assert claimed(records).request_id == "r2"


def test_expired_records_are_skipped(records: Records, redis: Redis) -> None:
    created(records)
    created(records, "r2")
    redis.delete("facelight:request:r1")
    assert claimed(records).request_id == "r2"
    assert records.depth("ic-light") == 0


@contextmanager
def full(redis: Redis) -> Iterator[None]:
    """Redis holds more than it may (noeviction)."""
    redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        redis.config_set("maxmemory", 0)


def test_accepted_requests_proceed_in_a_full_redis(records: Records, redis: Redis) -> None:
    registry = WorkerRegistry(redis, 10)
    for number in range(4):
        created(records, f"r{number}")
    with full(redis):
        with pytest.raises(RedisError) as refused:
            created(records, "new")
        assert is_outage(refused.value)
        assert records.get("new") is None
        registry.heartbeat(WorkerReport("worker-a", "cpu", {}))
        assert is_alive(registry, "worker-a")
        record = claimed(records)
        assert not records.report(record, 1, 2)
        assert records.requeue(record)
        assert complete(records, claimed(records), OUTPUTS, 1.0)
        assert records.fail(claimed(records), "no face")
        assert records.cancel("r2").status is Status.FAILED
        claimed(records)
        assert records.cancel("r3").cancel_requested
        assert records.audit(0, 10).seen == 1
    assert [found(records, f"r{number}").status.name[0] for number in range(4)] == ["C", "F", "F", "P"]


def test_an_audit_repairs_inconsistent_lists(records: Records, redis: Redis) -> None:
    """Keys are missing because an operator deleted them, or Redis lost its last second."""
    created(records, "queued")
    redis.delete("facelight:waiting:ic-light:foreground", "facelight:owner_queue:ic-light:foreground:owner")
    assert records.audit(0, 10).repaired == ("queued",)
    assert records.depth("ic-light") == 1
    redis.delete("facelight:owner_queue:ic-light:foreground:owner")
    assert records.audit(0, 10).repaired == ("queued",)
    with pytest.raises(QueueFull):
        records.check_queue_limits("ic-light", "owner", QueueLimits(per_owner=1))
    claimed(records)
    redis.delete("facelight:running")
    assert records.audit(0, 10).repaired == ("queued",)
    assert records.running() == ["queued"]
    assert records.audit(0, 10).repaired == ()
    assert complete(records, found(records, "queued"), OUTPUTS, 1.0)
    assert records.running() == []


def test_an_audit_continues_where_the_last_one_ended(records: Records, redis: Redis) -> None:
    for number in range(5):
        created(records, f"r{number}")
    redis.delete("facelight:request:r3")
    assert [records.audit(start, 2).seen for start in (0, 2, 4)] == [2, 2, 0]
    assert unfinished(redis) == ["r0", "r1", "r2", "r4"]


def test_an_overdue_request_fails(redis: Redis) -> None:
    records = Records(redis, result_ttl_s=3600, request_ttl_s=0)
    key = Keys(redis).add("alice", credits=5)[0]
    records.create("r1", "ic-light", "foreground", key.id, {}, cost=2)
    time.sleep(1.1)  # whole seconds are compared
    assert records.audit(0, 10).repaired == ("r1",)
    assert found(records).error == "The request has waited too long for a worker."
    assert Keys(redis).get(key.id).credits == 5
    assert records.depth("ic-light") == 0


def test_the_end_of_a_request_is_published(records: Records, redis: Redis) -> None:
    listener = redis.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(FINISHED_CHANNEL)
    listener.get_message(timeout=1)
    record = started(records)
    complete(records, record, OUTPUTS, 1.0)
    message = listener.get_message(timeout=5)
    assert message is not None
    assert message["data"] == b"r1"


def test_a_paused_worker_puts_its_wakeup_back(records: Records, redis: Redis) -> None:
    """It was waiting for one when the operator paused the workers."""
    created(records)
    wakeup = redis.lpop(WAKEUPS)
    assert isinstance(wakeup, bytes)
    suspend(redis)
    claim_id = new_call_id()
    for _ in range(2):  # the reply may be lost
        assert records.claim_batch([("ic-light", "foreground")], "worker-a", claim_id, wakeup=wakeup) == []
    assert redis.lpop(WAKEUPS) == wakeup
    assert found(records).status is Status.QUEUED
    assert resume(redis)
    (claimed,) = records.claim_batch([("ic-light", "foreground")], "worker-a", new_call_id(), wakeup=wakeup)
    assert claimed.request_id == "r1"


def test_other_changes_are_published_on_a_channel_of_the_request(records: Records, redis: Redis) -> None:
    listener = redis.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(CHANGES_PREFIX + "r1")
    listener.get_message(timeout=1)

    def told() -> int:
        redis.publish(CHANGES_PREFIX + "r1", "last")
        messages = iter(lambda: listener.get_message(timeout=5), None)
        return sum(1 for _ in iter(lambda: next(messages)["data"], b"last"))

    record = started(records)
    assert told() == 1
    for step in (0, 0, 1, 1, 1, 2):
        records.report(record, step, 25)
    assert told() == 2, "a report that says nothing new is none"
    assert records.requeue(record)
    assert told() == 1
