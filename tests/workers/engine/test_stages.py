"""One request, from its record to its pictures, with a pipeline small enough to see through."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import pytest
import torch
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from models.errors import InputRefused
from models.ic_light.params import Params
from models.imaging.decode import decode
from models.pipeline import OnStep, Pipeline, Pixels
from tests.s3_server import environment, new_bucket, s3_server, url_of
from tests.workers.state.support import claim
from tests.workers.support import PLACE, stages
from workers.errors import DeviceBroken, StoreUnavailable
from workers.logs import add_request_id
from workers.metrics.events import NOT_COUNTED, WorkerEvents
from workers.state.record import Record, Status
from workers.state.records import Records
from workers.store.base import Store
from workers.store.open import open_store


class Painter(Pipeline[Params, bytes]):
    """Paints the first byte of the input picture; `act` runs in the middle of the work."""

    variants = ("foreground",)

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.act = act

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> bytes:
        return images["subject_image"] + bytes([params.number_of_images])

    def batch_key(self, prepared: bytes) -> None:
        return None

    def run(self, batch: Sequence[bytes], on_step: OnStep) -> list[Pixels]:
        self.act()
        on_step(1, 2)
        on_step(2, 2)
        return [np.full((prepared[-1], 40, 60, 3), prepared[0], np.uint8) for prepared in batch]


def submitted(records: Records, store: Store, **params: object) -> str:
    name = store.put(b"\x40", "bin", 600)
    body = Params(subject_image=name, prompt="x", output_format="png", **params)
    records.create("r1", "ic-light", "foreground", "", body.model_dump(mode="json"))
    return name


def serve(
    records: Records, store: Store, pipeline: Painter, timeout_s: int = 60, events: WorkerEvents = NOT_COUNTED
) -> None:
    """Serve one request."""
    with stages(records, store, {"ic-light": pipeline}, timeout_s, events=events) as (engine, reporter):
        for _ in engine.serve(PLACE, b"wakeup"):
            pass
    assert reporter.request_ids == ()


def ended(records: Records) -> tuple[Status, str | None]:
    record = records.get("r1")
    assert record is not None
    return record.status, record.error


def test_pictures_are_in_the_store_when_the_record_says_completed(records: Records, store: Store) -> None:
    submitted(records, store, number_of_images=3)
    serve(records, store, Painter())
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
        assert 3590 < found.ttl_s < 3610


def test_computing_time_is_told_by_stage(records: Records, store: Store) -> None:
    class Timed(Painter):
        stage_intervals = (("text", 0.0, 0.25), ("denoise", 0.25, 1.0), ("text", 1.25, 0.0), ("denoise", 1.25, 0.5))

    submitted(records, store)
    serve(records, store, Timed())
    record = records.get("r1")
    assert record is not None
    assert list(record.stages) == ["prepare", "text", "denoise", "publish"]
    assert (record.stages["text"], record.stages["denoise"]) == (0.25, 1.5)
    assert 0 < record.stages["prepare"] < 1 and 0 < record.stages["publish"] < 1


def test_inputs_are_deleted_at_the_end(records: Records, store: Store) -> None:
    name = submitted(records, store)
    serve(records, store, Painter())
    assert store.find(name) is None


def test_an_optional_picture_is_read_and_deleted_like_the_first(records: Records, store: Store) -> None:
    given: list[Mapping[str, bytes]] = []

    class Watcher(Painter):
        def prepare(self, params: Params, images: Mapping[str, bytes]) -> bytes:
            given.append(images)
            return super().prepare(params, images)

    background = store.put(b"\x80", "bin", 600)
    submitted(records, store, background_image=background)
    serve(records, store, Watcher())
    assert given == [{"subject_image": b"\x40", "background_image": b"\x80"}]
    assert store.find(background) is None


def test_the_message_of_a_refusal_reaches_the_caller(records: Records, store: Store) -> None:
    def refuse() -> None:
        raise InputRefused("No face was found in face_image.")

    submitted(records, store)
    serve(records, store, Painter(refuse))
    record = records.get("r1")
    assert record is not None
    assert (record.status, record.error) == (Status.FAILED, "No face was found in face_image.")
    assert record.inference_time is not None


def test_the_text_of_a_defect_is_not_shown_to_the_caller(records: Records, store: Store) -> None:
    def break_down() -> None:
        raise ZeroDivisionError("secret path /weights/x")

    submitted(records, store)
    serve(records, store, Painter(break_down))
    record = records.get("r1")
    assert record is not None
    assert record.status is Status.FAILED
    assert "secret" not in (record.error or "")


def test_a_full_store_fails_the_request_and_leaves_no_files(
    records: Records, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full after the first of three pictures."""
    written = list[int]()

    def fill_disk() -> None:
        def full(file: int) -> None:
            written.append(file)
            if len(written) > 1:
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.fsync", full)

    submitted(records, store, number_of_images=3)
    serve(records, store, Painter(fill_disk))
    assert ended(records) == (Status.FAILED, "The result store cannot be used. Try again later.")
    assert len(written) == 2
    assert list((tmp_path / "store").rglob("*.*")) == []


def test_s3_lost_in_the_middle_of_a_job(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as server:
        for name, value in environment(url_of(server)).items():
            monkeypatch.setenv(name, value)
        store = open_store(f"s3://{new_bucket()}")
        submitted(records, store)
        serve(records, store, Painter(server.stop))
    record = records.get("r1")
    assert record is not None
    assert (record.status, record.error) == (Status.FAILED, "The result store cannot be used. Try again later.")


def test_a_request_past_its_deadline_fails(records: Records, store: Store) -> None:
    submitted(records, store)
    serve(records, store, Painter(), timeout_s=-1)
    record = records.get("r1")
    assert record is not None
    assert record.status is Status.FAILED
    assert "took longer" in (record.error or "")


def test_the_time_budget_covers_all_stages(records: Records, store: Store) -> None:
    class Slow(Painter):
        def prepare(self, params: Params, images: Mapping[str, bytes]) -> bytes:
            time.sleep(0.6)
            return super().prepare(params, images)

    submitted(records, store)
    serve(records, store, Slow(lambda: time.sleep(0.6)), timeout_s=1)
    status, error = ended(records)
    assert status is Status.FAILED
    assert "took longer than 1 s" in (error or "")


def test_an_expired_input_fails_the_request_with_a_message(records: Records, store: Store) -> None:
    store.delete(submitted(records, store))
    serve(records, store, Painter())
    record = records.get("r1")
    assert record is not None
    assert (record.status, record.error) == (
        Status.FAILED,
        "subject_image has expired before the request was served.",
    )


def test_a_request_claimed_by_another_worker_is_not_touched(records: Records, store: Store) -> None:
    submitted(records, store)
    claim(records, "ic-light", "foreground", "worker-b")

    def must_not_run() -> None:
        pytest.fail("the request belongs to worker-b")

    serve(records, store, Painter(must_not_run))
    record = records.get("r1")
    assert record is not None
    assert (record.status, record.worker) == (Status.PROCESSING, "worker-b")


def test_a_result_of_a_requeued_request_changes_nothing(records: Records, store: Store, tmp_path: Path) -> None:
    def lose_the_request() -> None:
        record = records.get("r1")
        assert record is not None
        assert records.requeue(record)

    name = submitted(records, store)
    serve(records, store, Painter(lose_the_request))
    record = records.get("r1")
    assert record is not None
    assert record.status is Status.QUEUED
    assert store.read(name) is not None, "the next worker needs the picture"
    assert [file.name for file in (tmp_path / "store").rglob("*.*")] == [name], "no result file is left"


def test_progress_is_reported_during_a_run(records: Records, store: Store) -> None:
    seen = list[Record]()

    class Slow(Painter):
        def run(self, batch: Sequence[bytes], on_step: OnStep) -> list[Pixels]:
            on_step(3, 25)
            while not seen or not seen[-1].total:
                seen.append(current(records))
            return super().run(batch, lambda *_: None)

    submitted(records, store)
    serve(records, store, Slow())
    assert (seen[-1].status, seen[-1].step, seen[-1].total) == (Status.PROCESSING, 3, 25)


def current(records: Records) -> Record:
    record = records.get("r1")
    assert record is not None
    return record


def test_a_cancelled_request_ends_at_the_next_step(records: Records, store: Store, tmp_path: Path) -> None:
    steps = list[int]()

    class Endless(Painter):
        def run(self, batch: Sequence[bytes], on_step: OnStep) -> list[Pixels]:
            records.cancel("r1")
            for step in range(1, 1000):
                time.sleep(0.01)
                steps.append(step)
                on_step(step, 1000)
            return super().run(batch, on_step)

    submitted(records, store)
    serve(records, store, Endless())
    assert ended(records) == (Status.FAILED, "The request was cancelled.")
    assert len(steps) < 999
    assert list((tmp_path / "store").rglob("*.*")) == [], "its input is deleted, and no result is stored"


def test_a_request_cancelled_after_its_last_step_leaves_no_files(
    records: Records, store: Store, tmp_path: Path
) -> None:
    class Late(Painter):
        def finish(self, params: Params, pixels: Pixels) -> list[bytes]:
            records.cancel("r1")
            return super().finish(params, pixels)

    class Counted(WorkerEvents):
        ends: ClassVar[list[int]] = []

        def ended(self, record: Record, stages: Mapping[str, float], pictures: int) -> None:
            self.ends.append(pictures)

    submitted(records, store)
    serve(records, store, Late(), events=Counted())
    assert ended(records) == (Status.FAILED, "The request was cancelled.")
    assert Counted.ends == [0], "it is counted as one that failed"
    assert list((tmp_path / "store").rglob("*.*")) == []


def failing(*errors: Exception | None) -> tuple[Callable[[], None], list[Exception | None]]:
    """What raises the errors, one at each call."""
    left = list(errors)

    def act() -> None:
        if error := left.pop(0):
            raise error

    return act, left


def test_after_running_out_of_memory_it_is_retried_once(records: Records, store: Store) -> None:
    act, left = failing(torch.OutOfMemoryError("CUDA out of memory."), None)
    submitted(records, store)
    serve(records, store, Painter(act))
    assert ended(records) == (Status.COMPLETED, None)
    assert left == []


def test_a_request_too_large_for_the_device_fails_with_a_message(records: Records, store: Store) -> None:
    act, left = failing(*[torch.OutOfMemoryError("CUDA out of memory.")] * 2)
    submitted(records, store)
    serve(records, store, Painter(act))
    assert ended(records) == (Status.FAILED, "The GPU has not enough memory for this request.")
    assert left == []


def test_a_broken_device_leaves_the_request_to_another_process(records: Records, store: Store) -> None:
    act, _ = failing(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    name = submitted(records, store)
    with pytest.raises(DeviceBroken):
        serve(records, store, Painter(act))
    assert ended(records) == (Status.PROCESSING, None)
    assert store.read(name) is not None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "out of device memory"),
        (ZeroDivisionError("odd"), "an unexpected error"),
        (StoreUnavailable("no space"), "the result store is unavailable"),
    ],
)
@pytest.mark.parametrize("stage", ["prepare", "run", "finish"])
def test_every_line_about_a_request_carries_its_id(
    records: Records, store: Store, caplog: pytest.LogCaptureFixture, stage: str, error: Exception, message: str
) -> None:
    def fail(*_args: object) -> NoReturn:
        raise error

    pipeline = Painter()
    setattr(pipeline, stage, fail)
    submitted(records, store)
    caplog.handler.addFilter(add_request_id)
    with caplog.at_level(logging.DEBUG, "workers"):
        serve(records, store, pipeline)
    caplog.handler.removeFilter(add_request_id)
    lines = [record for record in caplog.records if record.name.startswith("workers.")]
    assert any(message in record.message for record in lines) or stage == "finish"
    assert [record.message for record in lines if record.message.startswith("failed: ")] != []
    assert {record.request_id for record in lines} == {"r1"}


def test_an_outage_at_completion_is_survived(records: Records, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [RedisConnectionError("gone"), ResponseError("-OOM command not allowed when used memory > 'maxmemory'.")]
    complete = records.complete

    def unreliable(*args: Any) -> list[bool]:
        if answers:
            raise answers.pop()
        return complete(*args)

    monkeypatch.setattr(records, "complete", unreliable)
    monkeypatch.setattr("workers.state.connection._PAUSE_S", 0.01)
    submitted(records, store)
    serve(records, store, Painter())
    assert ended(records) == (Status.COMPLETED, None)
    assert answers == []
