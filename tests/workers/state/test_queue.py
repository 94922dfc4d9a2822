"""Tokens say for which variant somebody waits, and nothing that anybody would have to trust."""

from __future__ import annotations

import secrets

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue
from rq.exceptions import DequeueTimeout
from rq.job import Job

from workers.state.once import new_call_id
from workers.state.queue import JobQueue, TokenQueue
from workers.state.records import Records


def wait(records: Records, slug: str, variant: str, count: int = 1) -> None:
    for _ in range(count):
        records.create(secrets.token_hex(4), slug, variant, "", {})


def test_tokens_lie_in_the_queue_of_their_variant(queue: JobQueue, records: Records) -> None:
    wait(records, "ic-light", "foreground", 2)
    wait(records, "pulid-lightning", "artistic")
    counts = {one.queue_key: one.count for one in queue.all()}
    assert {place: count for place, count in counts.items() if count} == {
        ("ic-light", "foreground"): 2,
        ("pulid-lightning", "artistic"): 1,
    }


def test_a_token_tells_nothing_and_expires(queue: JobQueue, records: Records, redis: Redis) -> None:
    """RQ's tools can show it, and count it."""
    wait(records, "ic-light", "foreground")
    one = queue.queue_of("ic-light", "foreground")
    (name,) = one.job_ids
    (job,) = one.jobs
    assert (list(job.args), job.kwargs, job.result_ttl, job.failure_ttl) == ([], {}, 0, 0)
    assert (job.get_status(), job.origin, job.description) == ("queued", one.name, "ic-light foreground")
    assert one in Queue.all(connection=redis)
    assert 0 < redis.ttl(Job.key_for(name)) <= 87_000


def test_taking_a_token_leaves_nothing(queue: JobQueue, records: Records, redis: Redis) -> None:
    wait(records, "ic-light", "foreground")
    first, second = queue.queue_of("pulid-lightning", "default"), queue.queue_of("ic-light", "foreground")
    taken = TokenQueue.dequeue_any([first, second], None, redis)
    assert taken is not None
    token, place = taken
    assert place is second
    assert records.claim_batch([second.queue_key], "worker-a", new_call_id(), wakeup=token.name)
    assert redis.keys("rq:job:*") == []
    assert TokenQueue.dequeue_any([first, second], None, redis) is None
    with pytest.raises(DequeueTimeout):
        TokenQueue.dequeue_any([first, second], 1, redis)


@pytest.mark.parametrize("key", ["rq:queues", "rq:queue:facelight-ic-light-foreground"])
def test_what_is_amiss_with_rqs_keys_keeps_no_request_out(
    queue: JobQueue, records: Records, redis: Redis, key: str
) -> None:
    redis.set(key, "of another type")
    wait(records, "ic-light", "foreground")
    assert records.depth("ic-light") == 1
    redis.delete(key)
    queue.balance(queue.queue_of("ic-light", "foreground"))
    assert queue.queue_of("ic-light", "foreground").count == 1


def test_a_redis_that_does_not_answer_counts_as_away(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """RQ's worker tries again after the one error, and ends after the other."""

    def hang(*_args: object, **_options: object) -> None:
        raise RedisTimeoutError("no answer")

    monkeypatch.setattr(TokenQueue, "lpop", hang)
    with pytest.raises(RedisConnectionError):
        TokenQueue.dequeue_any([queue.queue_of("ic-light", "foreground")], 1, Redis())


def test_as_many_tokens_as_requests(queue: JobQueue, records: Records, redis: Redis) -> None:
    one = queue.queue_of("ic-light", "foreground")
    wait(records, *one.queue_key, count=300)
    redis.delete(one.key)
    assert (queue.balance(one), one.count) == (200, 200), "the rest next time"
    assert (queue.balance(one), one.count) == (100, 300)
    redis.zpopmin("facelight:waiting:ic-light:foreground", 50)
    assert (queue.balance(one), one.count) == (0, 300), "a few too many do nothing"
    redis.zpopmin("facelight:waiting:ic-light:foreground", 249)
    assert (queue.balance(one), one.count) == (0, 101)
