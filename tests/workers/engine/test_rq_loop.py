"""Wakeups name a queue, and nothing that would have to be trusted."""

from __future__ import annotations

import secrets

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue
from rq.exceptions import DequeueTimeout
from rq.job import Job

from workers.engine.rq_loop import WakeupQueue
from workers.state.records import Records
from workers.state.scripts import new_call_id


def wait(records: Records, slug: str, variant: str, count: int = 1) -> None:
    for _ in range(count):
        records.create(secrets.token_hex(4), slug, variant, "", {})


def test_wakeups_are_in_the_queue_of_their_variant(records: Records, redis: Redis) -> None:
    wait(records, "ic-light", "foreground", 2)
    wait(records, "pulid-lightning", "artistic")
    counts = {key.decode(): redis.llen(key) for key in redis.smembers("rq:queues")}
    assert counts == {"rq:queue:facelight-ic-light-foreground": 2, "rq:queue:facelight-pulid-lightning-artistic": 1}


def test_a_wakeup_holds_nothing_and_expires(records: Records, redis: Redis) -> None:
    """RQ's tools can show it, and count it."""
    wait(records, "ic-light", "foreground")
    one = WakeupQueue("ic-light", "foreground", redis)
    (name,) = one.job_ids
    (job,) = one.jobs
    assert (list(job.args), job.kwargs, job.result_ttl, job.failure_ttl) == ([], {}, 0, 0)
    assert (job.get_status(), job.origin, job.description) == ("queued", one.name, "ic-light foreground")
    assert one in Queue.all(connection=redis)
    assert 0 < redis.ttl(Job.key_for(name)) <= 87_000


def test_popping_a_wakeup_leaves_nothing(records: Records, redis: Redis) -> None:
    wait(records, "ic-light", "foreground")
    first, second = WakeupQueue("pulid-lightning", "default", redis), WakeupQueue("ic-light", "foreground", redis)
    popped = WakeupQueue.dequeue_any([first, second], None, redis)
    assert popped is not None
    wakeup, popped_from = popped
    assert popped_from is second
    assert records.claim_batch([second.queue_key], "worker-a", new_call_id(), wakeup=wakeup.name)
    assert redis.keys("rq:job:*") == []
    assert WakeupQueue.dequeue_any([first, second], None, redis) is None
    with pytest.raises(DequeueTimeout):
        WakeupQueue.dequeue_any([first, second], 1, redis)


@pytest.mark.parametrize("key", ["rq:queues", "rq:queue:facelight-ic-light-foreground"])
def test_broken_rq_keys_do_not_prevent_enqueueing(records: Records, redis: Redis, key: str) -> None:
    redis.set(key, "of another type")
    wait(records, "ic-light", "foreground")
    assert records.depth("ic-light") == 1
    redis.delete(key)
    records.reconcile_wakeups(("ic-light", "foreground"))
    assert WakeupQueue("ic-light", "foreground", redis).count == 1


@pytest.mark.parametrize(
    "error",
    [
        RedisTimeoutError("no answer"),
        ResponseError("NOREPLICAS Not enough good replicas to write."),
        ResponseError("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"),
    ],
    ids=lambda error: str(error).partition(" ")[0],
)
def test_an_outage_is_a_connection_error_to_rqs_loop(monkeypatch: pytest.MonkeyPatch, error: RedisError) -> None:
    """RQ's loop retries after a connection error, and ends after any other."""

    def fail(*_args: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(WakeupQueue, "lpop", fail)
    with pytest.raises(RedisConnectionError):
        WakeupQueue.dequeue_any([WakeupQueue("ic-light", "foreground", Redis())], 1, Redis())


def test_as_many_wakeups_as_requests(records: Records, redis: Redis) -> None:
    one = WakeupQueue("ic-light", "foreground", redis)
    wait(records, *one.queue_key, count=300)
    redis.delete(one.key)
    assert (records.reconcile_wakeups(one.queue_key), one.count) == (200, 200), "the rest next time"
    assert (records.reconcile_wakeups(one.queue_key), one.count) == (100, 300)
    redis.zpopmin("facelight:waiting:ic-light:foreground", 50)
    assert (records.reconcile_wakeups(one.queue_key), one.count) == (0, 300), "a few too many do nothing"
    redis.zpopmin("facelight:waiting:ic-light:foreground", 249)
    assert (records.reconcile_wakeups(one.queue_key), one.count) == (0, 101)
