"""Tokens say for which variant somebody waits, and nothing that anybody would have to trust."""

from __future__ import annotations

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq.exceptions import DequeueTimeout
from rq.job import Job
from rq.serializers import JSONSerializer

from workers.queue import JobQueue, TokenQueue


def test_tokens_lie_in_the_queue_of_their_variant(queue: JobQueue) -> None:
    queue.put("ic-light", "foreground")
    queue.put("ic-light", "foreground")
    queue.put("pulid-lightning", "artistic")
    counts = {(one.slug, one.variant): one.count for one in queue.all()}
    assert {name: count for name, count in counts.items() if count} == {
        ("ic-light", "foreground"): 2,
        ("pulid-lightning", "artistic"): 1,
    }


def test_a_token_tells_nothing_and_expires(queue: JobQueue, redis: Redis) -> None:
    queue.put("ic-light", "foreground")
    (name,) = queue.queue_of("ic-light", "foreground").job_ids
    job = Job.fetch(name, connection=redis, serializer=JSONSerializer)
    assert (list(job.args), job.kwargs, job.result_ttl, job.failure_ttl) == ([], {}, 0, 0)
    assert 0 < redis.ttl(Job.key_for(name)) <= 86_400


def test_taking_a_token_leaves_nothing(queue: JobQueue, redis: Redis) -> None:
    queue.put("ic-light", "foreground")
    first, second = queue.queue_of("pulid-lightning", "default"), queue.queue_of("ic-light", "foreground")
    taken = TokenQueue.dequeue_any([first, second], None, redis)
    assert taken is not None
    assert taken[1] is second
    assert redis.keys("rq:job:*") == []
    assert TokenQueue.dequeue_any([first, second], None, redis) is None
    with pytest.raises(DequeueTimeout):
        TokenQueue.dequeue_any([first, second], 1, redis)


def test_a_redis_that_does_not_answer_counts_as_away(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """RQ's worker tries again after the one error, and ends after the other."""

    def hang(*_args: object, **_options: object) -> None:
        raise RedisTimeoutError("no answer")

    monkeypatch.setattr(TokenQueue, "lpop", hang)
    with pytest.raises(RedisConnectionError):
        TokenQueue.dequeue_any([queue.queue_of("ic-light", "foreground")], 1, Redis())


def test_as_many_tokens_as_requests(queue: JobQueue) -> None:
    one = queue.queue_of("ic-light", "foreground")
    assert (queue.balance(one, 3), one.count) == (3, 3)
    assert (queue.balance(one, 2), one.count) == (0, 3), "a few too many do nothing"
    assert (queue.balance(one, 500), one.count) == (200, 203), "the rest next time"
    assert (queue.balance(one, 1), one.count) == (0, 101)
