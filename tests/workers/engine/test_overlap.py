"""The stages of a worker overlap, a failing batch is retried one by one, and order is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from redis import Redis

from models.errors import InputRefused
from models.ic_light.params import Params
from models.pipeline import OnStep, Pipeline, Pixels
from tests.workers.state.support import claim
from tests.workers.support import PLACE, stages
from workers.errors import DeviceBroken
from workers.state.record import Status
from workers.state.records import Records
from workers.state.scripts import FINISHED_CHANNEL
from workers.store.base import Store

WAIT_S = 20.0


class Staged(Pipeline[Params, str]):
    """Records which request is in which stage on which thread; `act` is what a run does besides."""

    variants = ("foreground",)

    def __init__(self, act: Callable[[Sequence[str], OnStep], None] = lambda batch, on_step: None) -> None:
        self.act = act
        self.events: list[tuple[str, str]] = []
        self.threads: dict[str, set[str]] = {"prepare": set(), "run": set(), "finish": set()}
        self.runs: list[list[str]] = []
        self.batch_keys: dict[str, object] = {}

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> str:
        self._note("prepare", params.prompt)
        if params.prompt == "refused":
            raise InputRefused("No face was found.")
        return params.prompt

    def batch_key(self, prepared: str) -> Any:
        return self.batch_keys.get(prepared)

    def run(self, batch: Sequence[str], on_step: OnStep) -> list[Pixels]:
        self.runs.append(list(batch))
        for prepared in batch:
            self._note("run", prepared)
        self.act(batch, on_step)
        return [np.full((1, 8, 8, 3), len(prepared), np.uint8) for prepared in batch]

    def finish(self, params: Params, pixels: Pixels) -> list[bytes]:
        self._note("finish", params.prompt)
        return super().finish(params, pixels)

    def await_event(self, stage: str, name: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while (stage, name) not in self.events:
            assert time.monotonic() < deadline, f"{stage} of {name} did not begin: {self.events}"
            time.sleep(0.002)

    def _note(self, stage: str, name: str) -> None:
        self.threads[stage].add(threading.current_thread().name)
        self.events.append((stage, name))


def submit(records: Records, store: Store, *names: str, batch_hint: str = "") -> None:
    for name in names:
        params = Params(subject_image=store.put(b"x", "bin", 600), prompt=name, output_format="png")
        records.create(name, "ic-light", "foreground", "", params.model_dump(mode="json"), batch_hint=batch_hint)


def serve(records: Records, store: Store, pipeline: Staged, **options: int) -> None:
    """Serve all that wait, notified by the wakeup of the first."""
    with stages(records, store, {"ic-light": pipeline}, **options) as (engine, reporter):
        for _ in engine.serve(PLACE, b"wakeup"):
            pass
    assert reporter.request_ids == ()


def states(records: Records, *names: str) -> list[str]:
    return [record.status.name if (record := records.get(name)) else "" for name in names]


def test_the_next_is_prepared_and_the_last_published_while_one_executes(records: Records, store: Store) -> None:
    """No stage of the three could go on here if it waited for another."""

    def act(batch: Sequence[str], on_step: OnStep) -> None:
        on_step(1, 2)  # nearly done: the next may be prefetched
        if batch == ["a"]:
            pipeline.await_event("prepare", "b")
        if batch == ["b"]:
            b_runs.set()
            pipeline.await_event("prepare", "c")
            a_may_finish.set()

    class Slow(Staged):
        def finish(self, params: Params, pixels: Pixels) -> list[bytes]:
            if params.prompt == "a":
                assert b_runs.wait(WAIT_S), "b waits for a's picture"
                assert a_may_finish.wait(WAIT_S)
            return super().finish(params, pixels)

    b_runs, a_may_finish = threading.Event(), threading.Event()
    pipeline = Slow(act)
    submit(records, store, "a", "b", "c")
    serve(records, store, pipeline)
    assert states(records, "a", "b", "c") == ["COMPLETED"] * 3
    assert pipeline.events.index(("run", "b")) < pipeline.events.index(("finish", "a"))
    assert pipeline.threads["run"] == {threading.current_thread().name}
    assert all(name.startswith("publish") for name in pipeline.threads["finish"])


def test_nothing_is_prefetched_long_before_a_run_ends(records: Records, store: Store) -> None:
    seen: list[list[str]] = []

    def act(batch: Sequence[str], on_step: OnStep) -> None:
        if batch == ["a"]:
            time.sleep(0.05)
            on_step(1, 100)  # five more seconds, by the look of it
            time.sleep(0.2)
            seen.append(states(records, "a", "b"))
            on_step(99, 100)
            pipeline.await_event("prepare", "b")

    pipeline = Staged(act)
    submit(records, store, "a", "b")
    serve(records, store, pipeline)
    assert seen == [["PROCESSING", "QUEUED"]]
    assert states(records, "a", "b") == ["COMPLETED"] * 2


def test_requests_complete_in_the_order_of_their_claims(records: Records, store: Store, redis: Redis) -> None:
    """… though the second picture is stored long before the first."""

    class Uneven(Staged):
        def finish(self, params: Params, pixels: Pixels) -> list[bytes]:
            if params.prompt == "r0":
                self.await_event("finish", "r3")
            return super().finish(params, pixels)

    names = [f"r{number}" for number in range(8)]
    ends = redis.pubsub(ignore_subscribe_messages=True)
    ends.subscribe(FINISHED_CHANNEL)
    submit(records, store, *names)
    serve(records, store, pipeline := Uneven())
    heard = [message["data"].decode() for _ in range(20) if (message := ends.get_message(timeout=0.1))]
    assert heard == names
    assert [name for run in pipeline.runs for name in run] == names


def test_a_hanging_disk_blocks_the_device_at_the_limit_of_pending_results(records: Records, store: Store) -> None:
    """What is executed and not stored is bounded."""

    class Hanging(Staged):
        def finish(self, params: Params, pixels: Pixels) -> list[bytes]:
            assert goes_on.wait(WAIT_S)
            return super().finish(params, pixels)

    goes_on = threading.Event()
    pipeline = Hanging()
    names = [f"r{number:02}" for number in range(16)]
    submit(records, store, *names)
    threading.Timer(0.5, goes_on.set).start()
    drawn: list[int] = []
    threading.Timer(0.4, lambda: drawn.append(len(pipeline.runs))).start()
    serve(records, store, pipeline)
    assert drawn == [13], "twelve are pending, the next cannot be submitted"
    assert states(records, *names) == ["COMPLETED"] * 16


def test_pending_bytes_are_bounded(records: Records, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    behind: list[int] = []

    class Counting(Staged):
        def run(self, batch: Sequence[str], on_step: OnStep) -> list[Pixels]:
            behind.append(sum(stage == "run" for stage, _ in self.events) - finished[0])
            return super().run(batch, on_step)

        def finish(self, params: Params, pixels: Pixels) -> list[bytes]:
            time.sleep(0.02)
            finished[0] += 1
            return super().finish(params, pixels)

    finished = [0]
    monkeypatch.setattr("workers.engine.publish.MAX_PENDING_BYTES", 2 * 8 * 8 * 3)
    names = [f"r{number:02}" for number in range(8)]
    submit(records, store, *names)
    serve(records, store, Counting())
    assert max(behind) <= 3, "two are pending, a third has been executed"
    monkeypatch.setattr("workers.engine.publish.MAX_PENDING_BYTES", 1)
    submit(records, store, "one")
    serve(records, store, Counting())
    assert states(records, *names, "one") == ["COMPLETED"] * 9, "one is always admitted"


MANY = [f"r{number:02}" for number in range(32)]


def test_requests_of_one_batch_hint_are_batched_while_many_wait(records: Records, store: Store) -> None:
    submit(records, store, *MANY, batch_hint="one")
    serve(records, store, pipeline := Staged())
    assert [name for run in pipeline.runs for name in run] == MANY
    assert pipeline.runs[0] == MANY[:4]
    assert pipeline.runs[-1] == MANY[-1:]
    assert states(records, *MANY) == ["COMPLETED"] * 32


def test_different_batch_keys_are_executed_separately(records: Records, store: Store) -> None:
    pipeline = Staged()
    pipeline.batch_keys = {"r02": "other", "r03": "other"}
    submit(records, store, *MANY, batch_hint="one")
    serve(records, store, pipeline)
    assert pipeline.runs[:2] == [["r00", "r01"], ["r02", "r03"]]


def test_one_that_is_refused_fails_alone(records: Records, store: Store) -> None:
    names = ["r00", "refused", *MANY[2:]]
    submit(records, store, *names, batch_hint="one")
    serve(records, store, pipeline := Staged())
    assert pipeline.runs[0] == ["r00", "r02", "r03"]
    assert states(records, *names[:3]) == ["COMPLETED", "FAILED", "COMPLETED"]


@pytest.mark.parametrize("error", [ValueError("odd"), torch.OutOfMemoryError("CUDA out of memory.")], ids=type)
def test_only_the_request_at_fault_fails(records: Records, store: Store, error: Exception) -> None:
    def act(batch: Sequence[str], on_step: OnStep) -> None:
        if "r01" in batch:
            raise error

    submit(records, store, *MANY, batch_hint="one")
    serve(records, store, pipeline := Staged(act))
    assert pipeline.runs[:5] == [MANY[:4], *([name] for name in MANY[:4])]
    assert states(records, *MANY[:4]) == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"]


@pytest.mark.slow
def test_a_batch_past_its_deadline_is_retried_one_by_one(records: Records, store: Store) -> None:
    def act(batch: Sequence[str], on_step: OnStep) -> None:
        if len(batch) > 1:
            time.sleep(1.1)
        on_step(1, 1)

    submit(records, store, *MANY[:16], batch_hint="one")
    serve(records, store, pipeline := Staged(act), timeout_s=1, max_batch=2)
    assert states(records, *MANY[:16]) == ["COMPLETED"] * 16
    record = records.get("r00")
    assert record is not None
    assert record.inference_time is not None
    assert record.inference_time < 1, "the time of the failed run does not count"
    assert pipeline.runs[:3] == [["r00", "r01"], ["r00"], ["r01"]]


def test_one_of_a_batch_is_cancelled_at_once_and_the_others_complete(records: Records, store: Store) -> None:
    seen: list[Any] = []

    def act(batch: Sequence[str], on_step: OnStep) -> None:
        if "r01" in batch:
            records.cancel("r01")
            deadline = time.monotonic() + WAIT_S
            while states(records, "r01") != ["FAILED"]:
                assert time.monotonic() < deadline
                on_step(1, 1000)
                time.sleep(0.01)
            seen.append(records.get("r01"))
            on_step(1000, 1000)

    submit(records, store, *MANY, batch_hint="one")
    serve(records, store, pipeline := Staged(act))
    assert seen[0].error == "The request was cancelled."
    assert seen[0].inference_time > 0
    assert len(pipeline.runs[0]) == 4
    assert ("finish", "r01") not in pipeline.events
    assert states(records, "r00", "r01", "r02", "r03") == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"]


def test_a_run_whose_requests_are_all_cancelled_is_aborted(records: Records, store: Store) -> None:
    def act(batch: Sequence[str], on_step: OnStep) -> None:
        if "r00" in batch:
            for name in batch:
                records.cancel(name)
            for step in range(1, 1000):
                time.sleep(0.01)
                steps.append(step)
                on_step(step, 1000)

    steps = list[int]()
    submit(records, store, *MANY[:16], batch_hint="one")
    serve(records, store, pipeline := Staged(act), max_batch=2)
    assert len(pipeline.runs[0]) == 2
    assert len(steps) < 999
    assert states(records, *MANY[:3]) == ["FAILED", "FAILED", "COMPLETED"]


def test_progress_of_all_requests_of_a_batch_is_reported(records: Records, store: Store) -> None:
    def act(batch: Sequence[str], on_step: OnStep) -> None:
        on_step(3, 25)
        deadline = time.monotonic() + WAIT_S
        while reported(batch) != [(3, 25)] * len(batch):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def reported(batch: Sequence[str]) -> list[tuple[int, int]]:
        return [(record.step, record.total) for name in batch if (record := records.get(name))]

    submit(records, store, *MANY[:16], batch_hint="one")
    serve(records, store, pipeline := Staged(act), max_batch=2)
    assert len(pipeline.runs[0]) == 2
    assert states(records, *MANY[:16]) == ["COMPLETED"] * 16


def test_a_retried_request_is_alone_in_its_worker(records: Records, store: Store) -> None:
    """It may have killed its worker: nothing is claimed beside it, and pending results are published first."""
    submit(records, store, "tried", "before", "behind")
    tried = claim(records, *PLACE, "dead")
    assert tried is not None

    def act(batch: Sequence[str], on_step: OnStep) -> None:
        if batch == ["before"]:
            records.requeue(tried)
        on_step(1, 1)
        if batch == ["tried"]:
            time.sleep(0.2)
            seen.extend(states(records, "before", "behind"))

    seen = list[str]()
    serve(records, store, pipeline := Staged(act))
    assert pipeline.runs == [["before"], ["tried"], ["behind"]]
    assert seen == ["COMPLETED", "QUEUED"]


def test_a_broken_device_leaves_all_requests_in_flight_to_others(records: Records, store: Store) -> None:
    def act(batch: Sequence[str], on_step: OnStep) -> None:
        on_step(1, 1)
        pipeline.await_event("prepare", "r04")
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    pipeline = Staged(act)
    submit(records, store, *MANY, batch_hint="one")
    with pytest.raises(DeviceBroken):
        serve(records, store, pipeline)
    assert states(records, *MANY[:5]) == ["PROCESSING"] * 5
    assert len(pipeline.runs) == 1


def test_after_stop_claiming_requests_in_flight_complete_and_no_other_is_claimed(
    records: Records, store: Store
) -> None:
    """SIGTERM, with a request taken ahead."""
    pipeline = Staged()
    submit(records, store, "a", "b", "c")
    with stages(records, store, {"ic-light": pipeline}) as (engine, reporter), closing(engine):

        def act(batch: Sequence[str], on_step: OnStep) -> None:
            on_step(1, 1)
            if batch == ["a"]:
                pipeline.await_event("prepare", "b")
                in_flight.append(reporter.request_ids)
                engine.stop_claiming()

        in_flight: list[tuple[str, ...]] = []
        pipeline.act = act
        for _ in engine.serve(PLACE, b"wakeup"):
            pass
    assert in_flight == [("a", "b")]
    assert states(records, "a", "b", "c") == ["COMPLETED", "COMPLETED", "QUEUED"]


def test_inference_time_excludes_waiting_between_stages(records: Records, store: Store) -> None:
    """b is prepared, and waits while a goes on."""

    def act(batch: Sequence[str], on_step: OnStep) -> None:
        if batch == ["a"]:
            on_step(1, 1)
            pipeline.await_event("prepare", "b")
            time.sleep(0.4)

    pipeline = Staged(act)
    submit(records, store, "a", "b")
    serve(records, store, pipeline)
    a, b = records.get("a"), records.get("b")
    assert a is not None and b is not None
    assert a.status is b.status is Status.COMPLETED
    assert (a.inference_time or 0) >= 0.4 > 0.3 > (b.inference_time or 0)
