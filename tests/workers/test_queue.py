"""Jobs carry an id and nothing else, wait in order, and never name code that would be imported."""

from __future__ import annotations

import json

import pytest
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from workers.errors import QueueFull
from workers.queue import JobQueue, RequestJob, job_id


def test_jobs_wait_in_order_per_variant(queue: JobQueue) -> None:
    queue.put("a", "ic-light", "foreground", 0)
    queue.put("b", "ic-light", "foreground", 0)
    queue.put("c", "pulid-lightning", "artistic", 0)
    assert queue.queue_of("ic-light", "foreground").job_ids == ["a-0", "b-0"]
    queue.put("d", "ic-light", "background", 0)
    assert queue.queue_of("ic-light", "background").job_ids == ["d-0"]
    assert (queue.depth("pulid-lightning"), queue.depth("ic-light")) == (1, 3)
    assert queue.waiting() == {"a", "b", "c", "d"}


def test_a_job_holds_the_request_id_and_nothing_more(queue: JobQueue, redis: Redis) -> None:
    queue.put("4711", "ic-light", "foreground", 0)
    job = RequestJob.fetch("4711-0", connection=redis, serializer=JSONSerializer)
    assert (job.args, job.kwargs) == ([], {"request_id": "4711"})


def test_a_full_queue_says_so(queue: JobQueue) -> None:
    for name, variant in (("a", "foreground"), ("b", "background"), ("c", "foreground")):
        queue.check_room("ic-light")
        queue.put(name, "ic-light", variant, 0)
    with pytest.raises(QueueFull):
        queue.check_room("ic-light")
    queue.check_room("pulid-lightning")


def test_every_key_of_a_waiting_job_expires(queue: JobQueue, redis: Redis) -> None:
    queue.put("a", "ic-light", "foreground", 0)
    assert 0 < redis.ttl(Job.key_for(job_id("a", 0))) <= 86_400


def test_a_job_that_names_a_function_cannot_run_it(queue: JobQueue, redis: Redis) -> None:
    """Whoever can write to Redis can name any function; the job calls what the worker has bound, and only that."""
    queue.queue_of("ic-light", "foreground").enqueue_call(
        "os.system", args=("true",), kwargs={"request_id": "x"}, job_id="evil-0"
    )
    job = RequestJob.fetch("evil-0", connection=redis, serializer=JSONSerializer)
    called: list[str] = []
    job.task = called.append
    job.perform()
    assert called == ["x"]
    assert json.loads(json.dumps(job.kwargs)) == {"request_id": "x"}
