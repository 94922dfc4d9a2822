"""Between loading a model and serving it: warming up, and its report."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from redis import Redis

from models.errors import DeviceUnfit
from models.pipeline import ExecutionReport
from models.pulid_lightning.options import Options
from models.runtime.compiler import Compiler
from models.runtime.runner import Execution
from models.weights.installed import WeightSet
from tests.faults.processes.members import Member
from tests.faults.processes.waiting import until
from workers.engine.model_loader import LoadedModels, set_up_cuda
from workers.errors import SettingsError
from workers.settings import WorkerSettings, read_settings
from workers.state.registry import ModelReport, ModelState, WorkerRegistry, WorkerReport

PULID = "pulid-lightning"
EAGER = ExecutionReport()
KERNELS = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


class Cold:
    """A pipeline that notes when it was warmed up."""

    variants = ("default",)

    def __init__(self, on_warm_up: Callable[[], None], execution: ExecutionReport = EAGER) -> None:
        self.warm_up, self.execution = on_warm_up, execution


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set before they are removed, so that what a test leaves behind is removed too.
    for name in KERNELS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def models(demo_weights: Path, tmp_path: Path) -> Callable[..., LoadedModels]:
    """The models of a worker for portraits alone, not loaded yet."""

    def make(**settings: object) -> LoadedModels:
        return LoadedModels(
            "w", WorkerSettings(device="cpu", weights_dir=demo_weights, data_dir=tmp_path, models=PULID, **settings)
        )

    return make


def play(monkeypatch: pytest.MonkeyPatch, load: Callable[[Options], object]) -> None:
    """Load something else in the place of the model."""

    def played(weights: WeightSet, device: torch.device, options: Options) -> object:
        return load(options)

    monkeypatch.setattr("models.pulid_lightning.pipeline.load", played)


def test_a_model_is_warm_before_it_is_ready(
    models: Callable[..., LoadedModels], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded, seen = models(), []

    def look() -> None:
        seen.append(loaded.report().models[PULID])

    play(monkeypatch, lambda _: Cold(on_warm_up=lambda: seen.append("warms up")))
    with caplog.at_level(logging.INFO):
        loaded.load(on_change=look)
    assert seen == [
        ModelReport(ModelState.LOADING, detail="warming up"),
        "warms up",
        ModelReport(ModelState.READY, "demo", variants=("default",), execution="eager"),
    ]
    assert seen[-1].load_s > 0
    assert seen[-1].warm_up_s > 0
    assert f"loaded on cpu in {seen[-1].load_s:.1f} s and warmed up in {seen[-1].warm_up_s:.1f} s" in caplog.text


def test_a_fallback_is_reported_and_logged(
    models: Callable[..., LoadedModels], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded, execution = models(), ExecutionReport("eager", "predict_noise cannot be compiled: no C compiler here")
    play(monkeypatch, lambda _: Cold(lambda: None, execution))
    loaded.load(on_change=lambda: None)
    report = loaded.report().models[PULID]
    assert (report.state, report.execution, report.fallback) == (ModelState.READY, "eager", execution.fallback)
    assert f"{PULID} falls back (eager execution): {execution.fallback}" in caplog.text


@pytest.mark.parametrize(("chosen", "state"), [("auto", ModelState.READY), ("on", ModelState.FAILED)])
@pytest.mark.slow
def test_a_real_model_with_a_failing_compiler(
    demo_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, state: ModelState
) -> None:
    """It is served eagerly, or not at all where compiling is required."""

    def broken_backend(_graph: object, _inputs: object) -> NoReturn:
        raise RuntimeError("no C compiler here")

    compiled = Execution(Compiler(broken_backend), required=chosen == "on")
    monkeypatch.setattr("models.ic_light.pipeline.execution_for", lambda _device, _chosen: compiled)
    settings = WorkerSettings(
        device="cpu", weights_dir=demo_weights, data_dir=tmp_path, models="ic-light", compile=chosen
    )
    loaded = LoadedModels("w", settings)
    loaded.load(on_change=lambda: None)
    report = loaded.report().models["ic-light"]
    assert report.state is state
    reason = report.fallback if chosen == "auto" else report.detail
    assert "predict_noise cannot be compiled: " in reason
    assert "no C compiler here" in reason
    assert set(loaded.pipelines) == ({"ic-light"} if chosen == "auto" else set())


def test_running_out_of_memory_while_warming_up_is_reported(
    models: Callable[..., LoadedModels], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    play(monkeypatch, lambda _: Cold(on_warm_up=full))
    loaded = models()
    loaded.load(on_change=lambda: None)
    report = loaded.report().models[PULID]
    assert report.state is ModelState.FAILED
    assert "memory of cpu is too small" in report.detail
    assert loaded.pipelines == {}


def test_running_out_of_memory_is_known_by_its_message_too(
    models: Callable[..., LoadedModels], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise RuntimeError("CUDA driver error: out of memory")

    play(monkeypatch, lambda _: Cold(on_warm_up=full))
    loaded = models()
    loaded.load(on_change=lambda: None)
    assert "memory of cpu is too small" in loaded.report().models[PULID].detail


def test_the_chosen_gpu_is_the_current_one_and_cudnn_serves_no_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        set_up_cuda(torch.device("cuda:1"))
        set_up_cuda(torch.device("cuda"))
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
    assert current == [torch.device("cuda:1")], "`cuda` alone means the one that is current"


def test_an_unfit_device_is_reported(models: Callable[..., LoadedModels], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(options: Options) -> object:
        raise DeviceUnfit("FACELIGHT_FP8 needs another GPU.")

    play(monkeypatch, refuse)
    loaded = models(fp8=True)
    loaded.load(on_change=lambda: None)
    assert loaded.report().models[PULID] == ModelReport(ModelState.FAILED, detail="FACELIGHT_FP8 needs another GPU.")


def test_settings_reach_the_loader(models: Callable[..., LoadedModels], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Options] = []

    def note(options: Options) -> Cold:
        chosen.append(options)
        return Cold(on_warm_up=lambda: None)

    play(monkeypatch, note)
    models().load(on_change=lambda: None)
    models(compile="max", checkpoint_memory="host").load(on_change=lambda: None)
    models(fp8=True).load(on_change=lambda: None)
    assert chosen == [
        Options(compile="auto"),
        Options(compile="max", checkpoint_memory="host"),
        Options(fp8=True),
    ]


def test_kernels_are_cached_in_the_data_folder_by_default(
    models: Callable[..., LoadedModels], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    play(monkeypatch, lambda _: Cold(on_warm_up=lambda: None))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    models().load(on_change=lambda: None)
    kept = [str(tmp_path / "compiled" / "inductor"), str(tmp_path / "triton")]
    assert [os.environ[name] for name in KERNELS] == kept


@pytest.mark.slow
def test_a_worker_serves_though_its_kernel_cache_is_unwritable(
    redis_url: str, demo_weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    environment = {
        "FACELIGHT_REDIS_URL": redis_url,
        "FACELIGHT_DATA_DIR": str(tmp_path / "data"),
        "FACELIGHT_WEIGHTS_DIR": str(demo_weights),
        "FACELIGHT_MODELS": "ic-light",
        "FACELIGHT_DEVICE": "cpu",
        **{name: str(tmp_path / "file" / "cache" / name) for name in KERNELS},
    }
    member = Member("worker", (sys.executable, "-m", "workers"), environment, tmp_path)
    member.start()
    registry = WorkerRegistry(Redis.from_url(redis_url), 10)
    try:
        until(lambda: any(worker.models["ic-light"].variants for worker in registry.live_workers()), "ready", 120)
    finally:
        member.end()
    assert member.log.read_text().count("compiled kernels cannot be cached in") == 2


def test_float8_with_offloaded_checkpoints_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELIGHT_FP8", "true")
    assert read_settings(WorkerSettings).fp8
    monkeypatch.setenv("FACELIGHT_CHECKPOINT_MEMORY", "host")
    with pytest.raises(SettingsError, match="FACELIGHT_FP8 cannot be used with FACELIGHT_CHECKPOINT_MEMORY=host"):
        read_settings(WorkerSettings)


def test_the_whole_report_reaches_the_gateway(redis_url: str) -> None:
    registry = WorkerRegistry(Redis.from_url(redis_url), 10)
    ready = ModelReport(
        ModelState.READY,
        "real",
        variants=("default",),
        load_s=12.5,
        warm_up_s=61.0,
        execution="compiled",
        fallback="predict_noise cannot be captured: no room",
    )
    registry.heartbeat(WorkerReport("w", "cuda", {PULID: ready}))
    (report,) = registry.live_workers()
    assert report.models[PULID] == ready
    assert (report.models[PULID].load_s, report.models[PULID].warm_up_s) == (12.5, 61.0)
