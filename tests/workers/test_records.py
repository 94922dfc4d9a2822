"""Every step of a request is atomic, checked against state and attempt, and final where it says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from workers.records import FINISHED_CHANNEL, Output, Record, Records, Status

PARAMS = {"prompt": "a “quoted” prompt \N{GRINNING FACE}", "seed": 2**64 - 1, "cfg": 1.5}
OUTPUTS = (Output("a" * 32 + ".png", "image/png", 1234, 64, 32),)


def created(records: Records, request_id: str = "r1") -> Record:
    records.create(request_id, "ic-light", "owner", PARAMS)
    record = records.get(request_id)
    assert record is not None
    return record


def started(records: Records, request_id: str = "r1") -> Record:
    created(records, request_id)
    record = records.start(request_id, "worker-a")
    assert record is not None
    return record


def test_a_new_record_is_queued_and_complete(records: Records) -> None:
    record = created(records)
    assert (record.status, record.slug, record.owner, record.attempt) == (Status.QUEUED, "ic-light", "owner", 0)
    assert record.params == PARAMS
    assert abs(record.created_at - time.time()) < 5
    assert record.queue_time is None
    assert record.total_time is None


def test_an_unknown_record_is_none(records: Records) -> None:
    assert records.get("nobody") is None
    assert records.start("nobody", "worker-a") is None


def test_a_request_goes_from_queue_to_result(records: Records, redis: Redis) -> None:
    record = started(records)
    assert (record.status, record.worker, record.attempt) == (Status.PROCESSING, "worker-a", 1)
    assert records.complete(record, OUTPUTS, 1.25)
    done = records.get("r1")
    assert done is not None
    assert (done.status, done.outputs, done.inference_time) == (Status.COMPLETED, OUTPUTS, 1.25)
    assert done.queue_time is not None
    assert done.total_time is not None
    assert 0 <= done.queue_time <= done.total_time < 5
    assert records.unfinished() == []
    assert 3590 < redis.ttl("facelight:request:r1") <= 3600


def test_every_record_expires(records: Records, redis: Redis) -> None:
    created(records)
    assert 0 < redis.ttl("facelight:request:r1") <= 86_400
    records.start("r1", "worker-a")
    assert 0 < redis.ttl("facelight:request:r1") <= 86_400


def test_a_request_can_fail_in_the_queue_and_at_work(records: Records) -> None:
    assert records.fail(created(records, "queued"), "no room")
    assert records.fail(started(records, "working"), "no face", 0.5)
    failed = records.get("working")
    assert failed is not None
    assert (failed.status, failed.error, failed.inference_time) == (Status.FAILED, "no face", 0.5)


@pytest.mark.parametrize("end", [Status.COMPLETED, Status.FAILED])
def test_final_states_are_final(records: Records, end: Status) -> None:
    record = started(records)
    assert records.complete(record, OUTPUTS, 1.0) if end is Status.COMPLETED else records.fail(record, "first")
    before = records.get("r1")
    assert before is not None
    assert not records.complete(record, (), 2.0)
    assert not records.fail(record, "second")
    assert not records.fail(before, "third")
    assert not records.requeue(record)
    assert records.start("r1", "worker-b") is None
    assert records.get("r1") == before


def test_a_worker_given_up_for_dead_cannot_overwrite_its_successor(records: Records) -> None:
    first = started(records)
    assert records.requeue(first)
    second = records.start("r1", "worker-b")
    assert second is not None
    assert second.attempt == 2
    assert not records.complete(first, OUTPUTS, 9.0)
    assert not records.fail(first, "late")
    assert records.complete(second, OUTPUTS, 1.0)
    done = records.get("r1")
    assert done is not None
    assert done.worker == "worker-b"


def test_a_step_sent_twice_counts_once(records: Records) -> None:
    """The connection broke behind the step and before its answer, and the client sent it again."""
    created(records)
    first, again = records.start("r1", "worker-a"), records.start("r1", "worker-a")
    assert first is not None
    assert again == first
    assert records.complete(first, OUTPUTS, 1.0)
    done = records.get("r1")
    assert records.complete(first, OUTPUTS, 1.0)
    assert records.get("r1") == done
    failing = started(records, "r2")
    assert records.fail(failing, "no face")
    assert records.fail(failing, "no face")


def test_a_stale_view_changes_nothing(records: Records) -> None:
    queued = created(records)
    records.start("r1", "worker-a")
    assert not records.fail(queued, "the janitor looked too early")
    assert not records.requeue(replace(queued, attempt=0))


def test_unfinished_requests_are_listed_oldest_first(records: Records) -> None:
    for name in ("one", "two", "three"):
        created(records, name)
    records.start("one", "worker-a")
    records.forget("two")
    assert records.unfinished() == ["one", "three"]
    assert records.get("two") is None


def test_only_one_of_many_workers_starts_a_request(records: Records) -> None:
    created(records)
    won: list[Record | None] = []
    threads = [threading.Thread(target=lambda n=n: won.append(records.start("r1", f"worker-{n}"))) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(record is not None for record in won) == 1


def test_the_end_of_a_request_is_published(records: Records, redis: Redis) -> None:
    listener = redis.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(FINISHED_CHANNEL)
    listener.get_message(timeout=1)
    record = started(records)
    records.complete(record, OUTPUTS, 1.0)
    message = listener.get_message(timeout=5)
    assert message is not None
    assert message["data"] == b"r1"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(steps=st.lists(st.sampled_from(["start", "complete", "fail", "requeue", "stale"]), max_size=12))
def test_any_history_keeps_the_state_machine(records: Records, redis: Redis, steps: list[str]) -> None:
    """A model of the machine in five lines agrees with Redis after every history of steps."""
    redis.flushall()
    view, expected = created(records), Status.QUEUED
    moves: dict[str, tuple[Callable[[str], object], set[Status], Status]] = {
        "start": (lambda name: records.start("r1", name), {Status.QUEUED}, Status.PROCESSING),
        "complete": (lambda name: records.complete(view, outputs(name), 1.0), {Status.PROCESSING}, Status.COMPLETED),
        "fail": (lambda name: records.fail(view, name), {Status.QUEUED, Status.PROCESSING}, Status.FAILED),
        "requeue": (lambda _: records.requeue(view), {Status.PROCESSING}, Status.QUEUED),
        "stale": (lambda name: records.complete(replace(view, attempt=99), outputs(name), 1.0), set(), expected),
    }
    for number, step in enumerate(steps):
        move, allowed, after = moves[step]
        moved = bool(move(f"step-{number}"))
        assert moved == (expected in allowed)
        expected = after if moved else expected
        current = records.get("r1")
        assert current is not None
        assert current.status is expected
        assert (records.unfinished() == []) == expected.is_final
        view = current


def outputs(name: str) -> tuple[Output, ...]:
    return (replace(OUTPUTS[0], name=name),)
