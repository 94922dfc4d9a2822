"""What crashes leave behind is repaired, once, and what is well is left alone."""

from __future__ import annotations

import pytest
from redis import Redis

from workers.janitor import Janitor
from workers.presence import ModelReport, ModelState, Presence, WorkerReport
from workers.queue import JobQueue
from workers.records import Records, Status
from workers.store import Store

ALIVE = WorkerReport("alive", "cpu", {"ic-light": ModelReport(ModelState.READY, "demo")})


@pytest.fixture
def janitor(records: Records, queue: JobQueue, store: Store, presence: Presence) -> Janitor:
    presence.announce(ALIVE)
    return Janitor(records, queue, store, presence, max_attempts=2)


def begin(records: Records, queue: JobQueue, request_id: str, worker: str) -> None:
    """Bring a request to PROCESSING as a worker does: its job is taken from the queue."""
    records.create(request_id, "ic-light", "", {})
    assert records.start(request_id, worker)


def status_of(records: Records, request_id: str) -> Status:
    record = records.get(request_id)
    assert record is not None
    return record.status


def test_a_request_of_a_dead_worker_is_queued_again(janitor: Janitor, records: Records, queue: JobQueue) -> None:
    begin(records, queue, "r1", "dead")
    janitor.tidy()
    assert status_of(records, "r1") is Status.QUEUED
    assert queue.queue_of("ic-light", "foreground").job_ids == ["r1-1"]
    janitor.tidy()
    assert queue.queue_of("ic-light", "foreground").job_ids == ["r1-1"], "a second round finds nothing to mend"


def test_a_request_goes_back_to_its_own_queue(janitor: Janitor, records: Records, queue: JobQueue) -> None:
    records.create("r1", "pulid-lightning", "", {"face_image": "x", "checkpoint_model": "artistic"})
    assert records.start("r1", "dead")
    janitor.tidy()
    assert queue.queue_of("pulid-lightning", "artistic").job_ids == ["r1-1"]


def test_a_request_that_kills_its_workers_fails(janitor: Janitor, records: Records, queue: JobQueue) -> None:
    begin(records, queue, "r1", "dead")
    janitor.tidy()
    queue.queue_of("ic-light", "foreground").empty()
    assert records.start("r1", "dead too")
    janitor.tidy()
    record = records.get("r1")
    assert record is not None
    assert record.status is Status.FAILED
    assert record.error is not None
    assert "2 times" in record.error


def test_a_living_worker_is_left_alone(janitor: Janitor, records: Records, queue: JobQueue) -> None:
    begin(records, queue, "r1", "alive")
    janitor.tidy()
    assert status_of(records, "r1") is Status.PROCESSING


def test_a_record_without_job_is_queued_after_a_while(
    janitor: Janitor, records: Records, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway died between writing the record and enqueuing, or a worker between taking the job and starting."""
    records.create("r1", "ic-light", "", {})
    janitor.tidy()
    assert queue.depth("ic-light") == 0, "it may be on its way"
    monkeypatch.setattr("workers.janitor._QUEUE_GRACE_S", -1.0)
    janitor.tidy()
    janitor.tidy()
    assert queue.queue_of("ic-light", "foreground").job_ids == ["r1-0"]


def test_waiting_requests_are_left_alone(
    janitor: Janitor, records: Records, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.janitor._QUEUE_GRACE_S", -1.0)
    records.create("r1", "ic-light", "", {})
    queue.put("r1", "ic-light", "foreground", 0)
    janitor.tidy()
    assert queue.queue_of("ic-light", "foreground").job_ids == ["r1-0"]


def test_ids_of_expired_records_leave_the_list(janitor: Janitor, records: Records, redis: Redis) -> None:
    records.create("r1", "ic-light", "", {})
    redis.delete("facelight:request:r1")
    janitor.tidy()
    assert records.unfinished() == []


def test_nothing_of_a_dead_job_stays_in_redis(
    janitor: Janitor, records: Records, queue: JobQueue, redis: Redis
) -> None:
    records.create("r1", "ic-light", "", {})
    queue.put("r1", "ic-light", "foreground", 0)
    redis.persist("rq:job:r1-0")  # as RQ does when a job starts
    redis.lpop(queue.queue_of("ic-light", "foreground").key)
    assert records.start("r1", "dead")
    janitor.tidy()
    assert not redis.exists("rq:job:r1-0")
