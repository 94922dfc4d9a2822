"""The audit finds every kind of inconsistency: each test corrupts the data in one way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.audit import audit
from tests.faults.audit_log import read_audit_log
from tests.faults.behaviour import Behaviour
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.redis_member import RedisMember
from workers.state.record import Status


@pytest.fixture(scope="module")
def made() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def request_id(made: Cluster) -> Iterator[str]:
    """A request that has completed, with nothing for the audit to find."""
    made.redis.client.flushall()
    made.caller.accepted.clear()
    request_id = made.caller.accept(Behaviour(), number_of_images=2)
    made.settled()
    assert of(made, request_id) == []
    yield request_id


def of(made: Cluster, request_id: str) -> list[str]:
    """What the audit says of one request, less its id."""
    return [words.replace(request_id, "it") for words in made.audit() if request_id in words]


def write(made: Cluster, request_id: str, status: Status) -> None:
    made.redis.client.hset(f"facelight:request:{request_id}", "status", status)
    made.redis.client.expire(f"facelight:request:{request_id}", 600)


def test_a_request_that_ended_twice(made: Cluster, request_id: str) -> None:
    write(made, request_id, Status.COMPLETED)
    assert of(made, request_id) == [
        "it ended 2 times: QUEUED PROCESSING COMPLETED COMPLETED",
        "it went on after its end: QUEUED PROCESSING COMPLETED COMPLETED",
    ]


def test_a_request_that_went_on_after_its_end(made: Cluster, request_id: str) -> None:
    write(made, request_id, Status.QUEUED)
    assert of(made, request_id) == ["it went on after its end: QUEUED PROCESSING COMPLETED QUEUED"]


def test_an_accepted_request_that_is_nowhere(made: Cluster) -> None:
    made.caller.accepted["gone"] = "label"
    assert of(made, "gone") == ["it was accepted and is nowhere"]


def test_a_request_that_never_ends(made: Cluster) -> None:
    write(made, "waiting", Status.QUEUED)
    assert of(made, "waiting") == ["it ended 0 times: QUEUED"]


def test_a_picture_that_is_gone(made: Cluster, request_id: str) -> None:
    next((made.data_dir / "store").rglob(picture_of(made, request_id))).unlink()
    assert of(made, request_id) == ["it is COMPLETED, and one of its pictures cannot be fetched"]


def test_pictures_of_two_runs(made: Cluster, request_id: str) -> None:
    other = made.caller.accept(Behaviour())
    made.settled()
    store = made.data_dir / "store"
    stranger = next(store.rglob(picture_of(made, other))).read_bytes()
    next(store.rglob(picture_of(made, request_id))).write_bytes(stranger)
    assert of(made, request_id) == ["it shows pictures that are not of one run of its own"]


def picture_of(made: Cluster, request_id: str) -> str:
    return str(made.caller.result(request_id)["images"][0]["file_name"])


def test_a_key_that_never_expires(made: Cluster) -> None:
    made.redis.client.set("facelight:odd", 1)
    assert "the key facelight:odd never expires" in made.audit()
    made.redis.client.delete("facelight:odd")


def test_the_audit_log_survives_redis(tmp_path: Path) -> None:
    redis = RedisMember(tmp_path)
    redis.start()
    try:
        for status in ("QUEUED", "PROCESSING"):
            redis.client.hset("facelight:request:a", mapping={"params": json.dumps({"x": "\r\n*3"}), "status": status})
        redis.kill()
        with redis.append_only_file.open("ab") as file:
            file.write(b"*4\r\n$4\r\nHSET\r\n$19\r\nfacelight:request:a\r\n$6\r\nstatus\r\n$9\r\nCOMP")  # cut short
        assert read_audit_log(redis.append_only_file)["a"].states == ("QUEUED", "PROCESSING")
        redis.start()
        redis.client.hset("facelight:request:a", "status", "FAILED")
        assert read_audit_log(redis.append_only_file)["a"].states == ("QUEUED", "PROCESSING", "FAILED")
    finally:
        redis.end()


def test_without_runs_pictures_are_not_asked_for(made: Cluster, request_id: str) -> None:
    next((made.data_dir / "store").rglob(picture_of(made, request_id))).unlink()
    assert [words for words in audit(made.redis, made.caller, None) if request_id in words] == []
