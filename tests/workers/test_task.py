"""One request, from its record to its pictures, with a pipeline small enough to see through."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from models.errors import InputRefused
from models.ic_light.params import Params
from models.images import decode
from models.pipeline import OnStep, Pipeline, Pixels
from tests.s3_server import environment, new_bucket, s3_server, url_of
from workers.records import Records, Status
from workers.store import Store, open_store
from workers.task import Task


class Painter(Pipeline[Params, bytes]):
    """Paints the first byte of the input picture; `act` runs in the middle of the work."""

    variants = ("foreground",)

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.act = act

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> bytes:
        return images["subject_image"] + bytes([params.number_of_images])

    def run(self, prepared: bytes, on_step: OnStep) -> Pixels:
        self.act()
        on_step(1, 2)
        on_step(2, 2)
        return np.full((prepared[-1], 40, 60, 3), prepared[0], np.uint8)


def submitted(records: Records, store: Store, **params: object) -> str:
    name = store.put(b"\x40", "bin", 600)
    body = Params(subject_image=name, prompt="x", output_format="png", **params)
    records.create("r1", "ic-light", "", body.model_dump(mode="json"))
    return name


def task_of(records: Records, store: Store, pipeline: Painter, timeout_s: int = 60) -> Task:
    return Task("worker-a", records, store, {"ic-light": pipeline}, result_ttl_s=3600, timeout_s=timeout_s)


def test_pictures_are_in_the_store_when_the_record_says_completed(records: Records, store: Store) -> None:
    submitted(records, store, number_of_images=3)
    task_of(records, store, Painter())("r1")
    record = records.get("r1")
    assert record is not None
    assert record.status is Status.COMPLETED
    assert len({output.name for output in record.outputs}) == 3
    for output in record.outputs:
        file = store.read(output.name)
        assert file is not None
        assert (output.media_type, output.size, output.width, output.height) == ("image/png", len(file), 60, 40)
        assert decode(file).getpixel((5, 5)) == (0x40, 0x40, 0x40)
        found = store.find(output.name)
        assert found is not None
        assert 3590 < found.lives_s < 3610


def test_inputs_are_dropped_at_the_end(records: Records, store: Store) -> None:
    name = submitted(records, store)
    task_of(records, store, Painter())("r1")
    assert store.find(name) is None


def test_an_optional_picture_is_given_and_dropped_like_the_first(records: Records, store: Store) -> None:
    given: list[Mapping[str, bytes]] = []

    class Watcher(Painter):
        def prepare(self, params: Params, images: Mapping[str, bytes]) -> bytes:
            given.append(images)
            return super().prepare(params, images)

    background = store.put(b"\x80", "bin", 600)
    submitted(records, store, background_image=background)
    task_of(records, store, Watcher())("r1")
    assert given == [{"subject_image": b"\x40", "background_image": b"\x80"}]
    assert store.find(background) is None


def test_a_refusal_reaches_the_caller_in_words(records: Records, store: Store) -> None:
    def refuse() -> None:
        raise InputRefused("No face was found in face_image.")

    submitted(records, store)
    task_of(records, store, Painter(refuse))("r1")
    record = records.get("r1")
    assert record is not None
    assert (record.status, record.error) == (Status.FAILED, "No face was found in face_image.")
    assert record.inference_time is not None


def test_a_defect_fails_the_request_and_keeps_its_text(records: Records, store: Store) -> None:
    def break_down() -> None:
        raise ZeroDivisionError("secret path /weights/x")

    submitted(records, store)
    task_of(records, store, Painter(break_down))("r1")
    record = records.get("r1")
    assert record is not None
    assert record.status is Status.FAILED
    assert "secret" not in (record.error or "")


def test_results_that_cannot_be_kept_fail_the_request_and_leave_nothing(
    records: Records, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk() -> None:
        def full(_file: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.fsync", full)

    submitted(records, store)
    task_of(records, store, Painter(fill_disk))("r1")
    record = records.get("r1")
    assert record is not None
    assert (record.status, record.error) == (Status.FAILED, "The result store cannot be used. Try again later.")
    assert list((tmp_path / "store").rglob("*.*")) == []


def test_s3_lost_in_the_middle_of_a_job(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as server:
        for name, value in environment(url_of(server)).items():
            monkeypatch.setenv(name, value)
        store = open_store(f"s3://{new_bucket()}")
        submitted(records, store)
        task_of(records, store, Painter(server.stop))("r1")
    record = records.get("r1")
    assert record is not None
    assert (record.status, record.error) == (Status.FAILED, "The result store cannot be used. Try again later.")


def test_a_request_past_its_deadline_fails(records: Records, store: Store) -> None:
    submitted(records, store)
    task_of(records, store, Painter(), timeout_s=-1)("r1")
    record = records.get("r1")
    assert record is not None
    assert record.status is Status.FAILED
    assert "took longer" in (record.error or "")


def test_an_expired_input_is_told(records: Records, store: Store) -> None:
    store.drop(submitted(records, store))
    task_of(records, store, Painter())("r1")
    record = records.get("r1")
    assert record is not None
    assert (record.status, record.error) == (
        Status.FAILED,
        "subject_image has expired before the request was served.",
    )


def test_a_request_served_by_another_is_left_alone(records: Records, store: Store) -> None:
    submitted(records, store)
    records.start("r1", "worker-b")

    def must_not_run() -> None:
        pytest.fail("the request belongs to worker-b")

    task_of(records, store, Painter(must_not_run))("r1")
    record = records.get("r1")
    assert record is not None
    assert (record.status, record.worker) == (Status.PROCESSING, "worker-b")


def test_a_result_that_comes_too_late_changes_nothing(records: Records, store: Store, tmp_path: Path) -> None:
    def lose_the_request() -> None:
        record = records.get("r1")
        assert record is not None
        assert records.requeue(record)

    name = submitted(records, store)
    task_of(records, store, Painter(lose_the_request))("r1")
    record = records.get("r1")
    assert record is not None
    assert record.status is Status.QUEUED
    assert store.read(name) is not None, "the next worker needs the picture"
    assert [file.name for file in (tmp_path / "store").rglob("*.*")] == [name], "no result is left lying about"
