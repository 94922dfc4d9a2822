"""The worker on RQ: requests in order in one process, models in turn, heartbeat, loading."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from redis import Redis
from redis.exceptions import ResponseError

from cli.serve import serves_demo_weights
from models.ic_light.params import Params
from models.pipeline import OnStep, Pipeline, Pixels
from models.pulid_lightning.options import Options
from models.weights.installed import INSTALLED_NAME, WeightSet
from tests.workers.state.support import is_alive, wakeups_key
from tests.workers.support import stages
from workers.engine.heartbeat import Heartbeat
from workers.engine.model_loader import LoadedModels, ensure_weights
from workers.engine.rq_loop import DEVICE_BROKEN, RequestWorker
from workers.engine.worker import serve
from workers.settings import WorkerSettings
from workers.state.record import Status
from workers.state.records import Records
from workers.state.registry import ModelReport, ModelState, WorkerRegistry, WorkerReport
from workers.store.base import Store

READY = {"ic-light": ModelReport(ModelState.READY, "demo", variants=("foreground",))}
PULID = ("default", "artistic", "realistic")
VARIANTS = {"ic-light": "foreground", "pulid-lightning": "default"}


class Recorder(Pipeline[Params, str]):
    """Records which requests it served and in which process."""

    variants = ("foreground",)

    def __init__(self) -> None:
        self.served: list[tuple[str, int]] = []

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> str:
        return params.prompt

    def batch_key(self, prepared: str) -> None:
        return None

    def run(self, batch: Sequence[str], on_step: OnStep) -> list[Pixels]:
        self.served += [(prepared, os.getpid()) for prepared in batch]
        return [np.zeros((1, 8, 8, 3), np.uint8) for _ in batch]


def submit(records: Records, store: Store, request_id: str, slug: str = "ic-light") -> None:
    field = {"ic-light": "subject_image", "pulid-lightning": "face_image"}[slug]
    params = {field: store.put(b"x", "bin", 600), "prompt": request_id}
    records.create(request_id, slug, VARIANTS[slug], "", params)


def work(redis: Redis, records: Records, store: Store, recorder: Recorder) -> RequestWorker:
    """Serve whatever waits, then return."""
    pipelines = {slug: copy(recorder) for slug in VARIANTS}
    for slug, variant in VARIANTS.items():
        pipelines[slug].variants = (variant,)
    with stages(records, store, pipelines) as (engine, _):
        worker = RequestWorker(engine, redis)
        worker.serve(burst=True)
    return worker


def statuses(records: Records, *names: str) -> list[Status | None]:
    return [record.status if (record := records.get(name)) else None for name in names]


def test_requests_are_served_in_order_in_this_process_and_leave_nothing_in_rq(
    redis: Redis, records: Records, store: Store
) -> None:
    names = ("first", "second", "third")
    for name in names:
        submit(records, store, name)
    work(redis, records, store, recorder := Recorder())
    assert recorder.served == [(name, os.getpid()) for name in names]
    assert statuses(records, *names) == [Status.COMPLETED] * 3
    assert [key for key in redis.scan_iter("rq:*") if redis.ttl(key) == -1] == [b"rq:queues"]


def test_models_take_turns(redis: Redis, records: Records, store: Store) -> None:
    for number in range(3):
        submit(records, store, f"light-{number}")
    submit(records, store, "face", slug="pulid-lightning")
    work(redis, records, store, recorder := Recorder())
    order = [name for name, _ in recorder.served]
    assert order.index("face") <= 1, "a long queue of one model does not hold up the other"


def test_surplus_wakeups_do_nothing(redis: Redis, records: Records, store: Store) -> None:
    key = wakeups_key("ic-light", "foreground")
    redis.rpush(key, "surplus-1", "surplus-2", "surplus-3")
    submit(records, store, "one")
    work(redis, records, store, recorder := Recorder())
    assert [name for name, _ in recorder.served] == ["one"]
    assert redis.llen(key) == 0


JUNK: dict[str, dict[str, str | bytes]] = {
    "of a function elsewhere": {"data": '["pathlib.Path.touch", null, ["TARGET"], {}]'},
    "pickled": {"data": b"\x80\x04\x95TARGET"},
    "noise": {
        "data": b"\xff\xfe\x00",
        "origin": b"\xff",
        "timeout": "soon",
        "status": "odd",
        "created_at": "yesterday",
    },
    "of ours with odd arguments": {
        "data": '["workers.engine.stages.RequestStages", null, [1], {"request_id": [{"a": null}]}]'
    },
}


@pytest.mark.parametrize("junk", JUNK)
def test_a_forged_job_runs_nothing_and_does_not_stop_the_worker(
    redis: Redis, records: Records, store: Store, tmp_path: Path, junk: str
) -> None:
    target = tmp_path / "forged"
    fields = {
        key: str(value).replace("TARGET", str(target)) if isinstance(value, str) else value
        for key, value in JUNK[junk].items()
    }
    redis.hset("rq:job:forged", mapping=fields)
    redis.rpush(wakeups_key("ic-light", "foreground"), "forged")
    submit(records, store, "honest")
    work(redis, records, store, recorder := Recorder())
    assert not target.exists()
    assert not redis.exists("rq:job:forged")
    assert [name for name, _ in recorder.served] == ["honest"]


@pytest.mark.parametrize("name", [b"no such job", b"\xff\xfe\x00", b""])
def test_an_invalid_job_name_does_not_stop_the_worker(
    redis: Redis, records: Records, store: Store, name: bytes
) -> None:
    redis.rpush(wakeups_key("ic-light", "foreground"), name)
    redis.set(b"rq:job:" + name, "a string where a hash should be")
    submit(records, store, "honest")
    work(redis, records, store, recorder := Recorder())
    assert [name for name, _ in recorder.served] == ["honest"]


def test_a_broken_device_ends_the_worker_at_once(redis: Redis, records: Records, store: Store) -> None:
    class Broken(Recorder):
        def prepare(self, params: Params, images: Mapping[str, bytes]) -> str:
            raise RuntimeError("CUDA error: device-side assert triggered")

    for name in ("first", "second"):
        submit(records, store, name)
    worker = work(redis, records, store, Broken())
    assert worker.exit_status == DEVICE_BROKEN
    assert statuses(records, "first", "second") == [Status.PROCESSING, Status.QUEUED]


def test_a_completion_that_redis_refuses_does_not_end_the_worker(
    redis: Redis, records: Records, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> list[bool]:
        raise ResponseError("WRONGTYPE")

    monkeypatch.setattr(records, "complete", refuse)
    submit(records, store, "first")
    worker = work(redis, records, store, Recorder())
    assert worker.exit_status == 0
    assert statuses(records, "first") == [Status.PROCESSING]
    assert len(list((tmp_path / "store").rglob("*.*"))) == 2, "it may have completed: no file may be deleted"


def test_requests_complete_though_redis_is_full(redis: Redis, records: Records, store: Store) -> None:
    for number in range(3):
        submit(records, store, f"r{number}")
    redis.config_set("maxmemory", 1)
    try:
        work(redis, records, store, Recorder())
    finally:
        redis.config_set("maxmemory", 0)
    assert statuses(records, "r0", "r1", "r2") == [Status.COMPLETED] * 3


def test_a_heartbeat_keeps_a_worker_alive_and_stops_with_it(redis: Redis) -> None:
    registry = WorkerRegistry(redis, ttl_s=2)
    heartbeat = Heartbeat(registry, lambda: WorkerReport("w", "cpu", READY), interval_s=0.2)
    heartbeat.start()
    time.sleep(2.5)
    assert is_alive(registry, "w")
    assert registry.live_workers() == [WorkerReport("w", "cpu", READY)]
    heartbeat.stop()
    assert not is_alive(registry, "w")
    assert not any(thread.name == "heartbeat" for thread in threading.enumerate())


def test_a_worker_without_heartbeat_is_presumed_dead(redis: Redis) -> None:
    registry = WorkerRegistry(redis, ttl_s=1)
    registry.heartbeat(WorkerReport("w", "cpu", READY))
    assert is_alive(registry, "w")
    time.sleep(1.2)
    assert not is_alive(registry, "w")
    assert registry.live_workers() == []


def test_one_model_without_weights_does_not_stop_the_other(demo_weights: Path, tmp_path: Path) -> None:
    partial = tmp_path / "weights"
    partial.mkdir()
    for entry in demo_weights.iterdir():
        if entry.name != "sd15":
            (partial / entry.name).symlink_to(entry)
    models = LoadedModels("w", WorkerSettings(weights_dir=partial, device="cpu"))
    assert {report.state for report in models.report().models.values()} == {ModelState.LOADING}
    models.load(on_change=lambda: None)
    report = models.report().models
    assert report["pulid-lightning"] == ModelReport(ModelState.READY, "demo", variants=PULID, execution="eager")
    assert report["ic-light"].state is ModelState.FAILED
    assert "sd15" in report["ic-light"].detail
    assert set(models.pipelines) == {"pulid-lightning"}


def loaded(**settings: object) -> LoadedModels:
    """The models of a worker with these settings."""
    models = LoadedModels("w", WorkerSettings(device="cpu", **settings))
    models.load(on_change=lambda: None)
    return models


def test_settings_reach_the_loader_and_variants_the_report(
    demo_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[Options] = []

    def load(weights: WeightSet, device: torch.device, options: Options) -> Recorder:
        chosen.append(options)
        return Recorder()

    monkeypatch.setattr("models.pulid_lightning.pipeline.load", load)
    models = loaded(
        weights_dir=demo_weights,
        data_dir=tmp_path,
        models="pulid-lightning",
        pulid_body_weighting="official",
        checkpoints="realistic,default",
        checkpoint_memory="host",
    )
    assert chosen == [
        Options(pulid_body_weighting="official", checkpoints=("realistic", "default"), checkpoint_memory="host")
    ]
    assert models.report().models["pulid-lightning"].variants == ("foreground",)


def test_checkpoints_that_are_not_wanted_need_not_be_there(demo_weights: Path, tmp_path: Path) -> None:
    partial = tmp_path / "weights"
    shutil.copytree(demo_weights, partial, ignore=shutil.ignore_patterns("realistic.safetensors"))
    choices = {"weights_dir": partial, "data_dir": tmp_path, "models": "pulid-lightning"}
    report = loaded(**choices, checkpoints="default,artistic").report().models["pulid-lightning"]
    assert (report.state, report.variants) == (ModelState.READY, ("default", "artistic"))
    report = loaded(**choices).report().models["pulid-lightning"]
    assert report.state is ModelState.FAILED
    assert "realistic.safetensors" in report.detail


@pytest.mark.parametrize("at", [-1, 20], ids=["a number", "the header"])
def test_a_file_that_was_altered_is_not_served_though_it_is_hashed_while_it_is_loaded(
    demo_weights: Path, tmp_path: Path, at: int
) -> None:
    root = shutil.copytree(demo_weights, tmp_path / "weights")
    file = root / "ic-light" / "iclight_sd15_fc.safetensors"
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    models = loaded(weights_dir=root, data_dir=tmp_path, models="ic-light")
    report = models.report().models["ic-light"]
    assert report.state is ModelState.FAILED
    assert re.search(r"iclight_sd15_fc\.safetensors: damaged: sha256 .*facelight weights fetch", report.detail)
    assert not models.pipelines


def test_a_model_too_large_for_the_device_does_not_stop_the_other(
    demo_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(weights: WeightSet, device: torch.device, options: Options) -> Recorder:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("models.pulid_lightning.pipeline.load", load)
    models = loaded(weights_dir=demo_weights, data_dir=tmp_path)
    report = models.report().models
    assert "FACELIGHT_CHECKPOINT_MEMORY" in report["pulid-lightning"].detail
    assert set(models.pipelines) == {"ic-light"}


def test_flexible_models_are_loaded_last(demo_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for name, slug in (("pulid_lightning", "pulid-lightning"), ("ic_light", "ic-light")):
        monkeypatch.setattr(f"models.{name}.pipeline.load", lambda *_, slug=slug: order.append(slug) or Recorder())
    loaded(weights_dir=demo_weights, data_dir=tmp_path, models="pulid-lightning,ic-light")
    assert order == ["ic-light", "pulid-lightning"]


def test_fetched_weights_take_precedence_over_demo_weights(demo_weights: Path, tmp_path: Path) -> None:
    settings = WorkerSettings(data_dir=tmp_path, demo=True)
    settings.real_dir.mkdir(parents=True)
    settings.demo_dir.symlink_to(demo_weights)
    assert ensure_weights(settings) == settings.demo_dir, "nothing was fetched yet"
    (settings.real_dir / INSTALLED_NAME).write_text('kind = "real"')
    assert ensure_weights(settings) == settings.real_dir
    assert ensure_weights(WorkerSettings(data_dir=tmp_path, weights_dir=demo_weights)) == demo_weights


def test_without_weights_no_model_is_loaded_unless_demo_weights_are_asked_for(tmp_path: Path) -> None:
    models = loaded(data_dir=tmp_path)
    reports = models.report().models
    assert models.pipelines == {}
    assert {report.state for report in reports.values()} == {ModelState.FAILED}
    for report in reports.values():
        assert f"no weights were fetched into {tmp_path / 'weights' / 'real'}" in report.detail
        assert "FACELIGHT_DEMO=true" in report.detail
    assert not (tmp_path / "weights").exists(), "nothing was built"


def test_facelight_serve_asks_for_demo_weights_only_if_there_are_no_others(tmp_path: Path) -> None:
    assert serves_demo_weights(WorkerSettings(data_dir=tmp_path))
    assert not serves_demo_weights(WorkerSettings(data_dir=tmp_path, demo=False)), "the operator has refused them"
    assert not serves_demo_weights(WorkerSettings(data_dir=tmp_path, weights_dir=tmp_path / "own"))
    (tmp_path / "weights" / "real").mkdir(parents=True)
    (tmp_path / "weights" / "real" / INSTALLED_NAME).write_text('kind = "real"')
    assert not serves_demo_weights(WorkerSettings(data_dir=tmp_path))


def test_a_worker_without_any_model_stays_and_says_why_until_it_is_stopped(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    environment = {"FACELIGHT_REDIS_URL": redis_url, "FACELIGHT_DATA_DIR": str(tmp_path), "FACELIGHT_DEVICE": "cpu"}
    reports, status = stop_when(lambda states: ModelState.LOADING not in states, redis, environment)
    assert {report.state for report in reports.values()} == {ModelState.FAILED}
    assert all("no weights were fetched" in report.detail for report in reports.values())
    assert status == 0
    assert WorkerRegistry(redis, ttl_s=10).live_workers() == [], "it has deregistered"


def test_a_worker_that_is_stopped_while_it_loads_deregisters(
    redis: Redis, redis_url: str, tmp_path: Path, demo_weights: Path
) -> None:
    environment = {
        "FACELIGHT_REDIS_URL": redis_url,
        "FACELIGHT_DATA_DIR": str(tmp_path),
        "FACELIGHT_WEIGHTS_DIR": str(demo_weights),
    }
    _, status = stop_when(lambda states: ModelState.LOADING in states, redis, environment)
    assert status == 0
    assert WorkerRegistry(redis, ttl_s=10).live_workers() == []


def test_a_worker_that_is_stopped_right_after_its_first_heartbeat_deregisters(
    redis: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, start = WorkerRegistry(redis, ttl_s=10), Heartbeat.start

    def start_and_stop(heartbeat: Heartbeat) -> None:
        start(heartbeat)
        while not registry.live_workers():
            time.sleep(0.01)
        raise SystemExit(0)  # as the handler of SIGTERM does, in the main thread

    monkeypatch.setattr(Heartbeat, "start", start_and_stop)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit):
        serve(WorkerSettings(redis_url=redis_url, data_dir=tmp_path))
    assert registry.live_workers() == []


def stop_when(
    condition: Callable[[set[ModelState]], bool], redis: Redis, environment: Mapping[str, str]
) -> tuple[Mapping[str, ModelReport], int]:
    """Run a worker process and send it SIGTERM once the states of its models meet the condition.

    Returns the reports of its models at that time, and its exit status.
    """
    process = subprocess.Popen([sys.executable, "-m", "workers"], env=os.environ | environment)
    try:
        reports: Mapping[str, ModelReport] = {}
        while not reports or not condition({report.state for report in reports.values()}):
            assert process.poll() is None
            time.sleep(0.02)
            reports = next((worker.models for worker in WorkerRegistry(redis, ttl_s=10).live_workers()), {})
    finally:
        process.terminate()
        status = process.wait(30)
    return reports, status
