"""Free memory as /proc and control groups tell it, and what a worker does where it is too small."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.catalog import MODELS
from models.model import MemoryNeed
from models.pulid_lightning import checkpoints
from models.pulid_lightning.options import Options
from models.weights.installed import WeightSet
from workers.engine.memory import free_host_memory, shortage
from workers.engine.model_loader import LoadedModels
from workers.settings import WorkerSettings
from workers.state.registry import ModelState

CPU = torch.device("cpu")
MB = 10**6
UNLIMITED = 9223372036854771712
MEMINFO = "MemTotal:       24000000 kB\nMemFree:          500000 kB\nMemAvailable:   10000000 kB\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, str | int]], int]:
    """Write files below /proc and /sys/fs/cgroup of a folder, and read the free memory there in MB."""

    def written(files: dict[str, str | int]) -> int:
        for name, content in {"proc/meminfo": MEMINFO, **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n" if isinstance(content, int) else content)
        return free_host_memory(tmp_path / "proc", tmp_path / "cgroup") // MB

    return written


def test_without_limits_the_host_has_what_is_available(write: Callable[..., int]) -> None:
    assert write({}) == 10_240
    assert write({"proc/self/cgroup": "0::/\n", "cgroup/memory.max": "max\n", "cgroup/memory.current": MB}) == 10_240
    files: dict[str, str | int] = {"proc/self/cgroup": "4:memory:/\n"}
    files |= {"cgroup/memory/memory.limit_in_bytes": UNLIMITED, "cgroup/memory/memory.usage_in_bytes": MB}
    assert write(files) == 10_240


STAT_2 = f"anon 1\nfile {600 * MB}\ninactive_file {200 * MB}\nactive_file {300 * MB}\n"
STAT_1 = f"active_file 7\ninactive_file 7\ntotal_inactive_file {200 * MB}\ntotal_active_file {300 * MB}\n"


def test_a_group_of_version_2_limits_with_all_above_it(write: Callable[..., int]) -> None:
    files: dict[str, str | int] = {
        "proc/self/cgroup": "0::/machine/worker\n",
        "cgroup/machine/worker/memory.max": 4000 * MB,
        "cgroup/machine/worker/memory.current": 1500 * MB,
        "cgroup/machine/worker/memory.stat": STAT_2,
    }
    assert write(files) == 3000, "the file cache is given back when it is needed"
    files |= {"cgroup/machine/memory.max": 5000 * MB, "cgroup/machine/memory.current": 4900 * MB}
    assert write(files) == 100
    assert write({**files, "cgroup/machine/memory.current": 5100 * MB}) == 0


def test_a_group_of_version_1_limits_with_all_above_it(write: Callable[..., int]) -> None:
    files: dict[str, str | int] = {
        "proc/self/cgroup": "5:cpu,cpuacct:/else\n4:memory:/docker/a\n0::/\n",
        "cgroup/memory/docker/a/memory.limit_in_bytes": UNLIMITED,
        "cgroup/memory/docker/a/memory.usage_in_bytes": 900 * MB,
        "cgroup/memory/docker/memory.limit_in_bytes": 4000 * MB,
        "cgroup/memory/docker/memory.usage_in_bytes": 1500 * MB,
        "cgroup/memory/docker/memory.stat": STAT_1,
    }
    assert write(files) == 3000


@pytest.mark.parametrize(
    ("line", "folder", "limit", "usage"),
    [
        ("0::/system.slice/docker-1.scope\n", "cgroup", "memory.max", "memory.current"),
        ("4:memory:/docker/1\n", "cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
    ids=["version 2", "version 1"],
)
def test_in_a_container_the_group_itself_is_mounted(
    write: Callable[..., int], line: str, folder: str, limit: str, usage: str
) -> None:
    files = {"proc/self/cgroup": line, f"{folder}/{limit}": 4000 * MB, f"{folder}/{usage}": 1000 * MB}
    assert write(files) == 3000


def test_this_machine_has_some() -> None:
    assert free_host_memory() > 0


def test_all_is_well_if_enough_is_free_and_every_part_is_told_if_not() -> None:
    needs = [MemoryNeed("one", 3000 * MB), MemoryNeed("two", 1000 * MB, 500 * MB), MemoryNeed("three")]
    needed = 4500 * MB + 2 * 1024**3
    assert shortage(needs, CPU, needed) == ""
    assert shortage(needs, CPU, needed - 1) == (
        "this host has 6.65 GB of memory free where 6.65 GB are needed: one 3.00 GB, two 1.50 GB, and 2.15 GB to work "
        "in"
    )
    small = [MemoryNeed("demo", 100 * MB)]
    assert shortage(small, CPU, 200 * MB) == "", "small networks have small activations"
    assert shortage(small, CPU, 200 * MB - 1)


def test_a_gpu_has_a_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6000 * MB, 8000 * MB))
    needs, gpu = [MemoryNeed("unet", 3000 * MB, 5000 * MB)], torch.device("cuda:1")
    assert shortage(needs, gpu, 8000 * MB) == ""
    assert shortage(needs, gpu, 7000 * MB).startswith("this host has 7.00 GB")
    assert shortage([MemoryNeed("unet", 4000 * MB)], gpu, 0).startswith("cuda:1 has 6.00 GB of memory free where 6.15")


@pytest.mark.parametrize("slug", ["ic-light", pytest.param("pulid-lightning", marks=pytest.mark.slow)])
def test_needs_are_what_is_loaded(demo_weights: Path, slug: str) -> None:
    model = MODELS[slug]
    options = model.options.model_validate({"checkpoints": ("default", "artistic")})
    weights = WeightSet.open(demo_weights, slug)
    needs = model.memory_needs(weights, CPU, options)
    pipeline = model.load(weights, CPU, options)
    sizes = sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors_of(pipeline)}.values())
    told = sum(need.device for need in needs)
    assert 0.97 * sizes < told < 1.03 * sizes, [(need.part, need.device) for need in needs]


def tensors_of(pipeline: object) -> Iterator[Tensor]:
    """All tensors that a pipeline holds, however deep."""
    seen: dict[int, object] = {}
    waiting: list[object] = [pipeline]
    while waiting:
        it = waiting.pop()
        if id(it) in seen:
            continue
        seen[id(it)] = it
        if isinstance(it, Tensor):
            yield it
        elif isinstance(it, torch.nn.Module):
            yield from it.state_dict().values()
        elif isinstance(it, dict):
            waiting += it.values()
        elif isinstance(it, list | tuple):
            waiting += it
        elif callable(it) and getattr(it, "__closure__", None):
            waiting += [cell.cell_contents for cell in it.__closure__]  # type: ignore[attr-defined]
        elif type(it).__module__.startswith("models."):
            waiting += vars(it).values()


def test_one_checkpoint_on_a_gpu_at_a_time_is_what_auto_needs_there(demo_weights: Path) -> None:
    weights, gpu = WeightSet.open(demo_weights, "pulid-lightning"), torch.device("cuda:0")
    precision = checkpoints.precision_of(CPU)
    names = ("default", "artistic", "realistic")

    def needs(memory: str, device: torch.device) -> tuple[list[int], list[int]]:
        found = checkpoints.checkpoint_needs(weights, names, device, memory, precision)  # type: ignore[arg-type]
        return [need.device for need in found], [need.host for need in found]

    (unet,) = set(needs("host", gpu)[1])
    on_device, on_host = needs("device", gpu)
    assert on_host == [0, 0, 0]
    assert needs("auto", CPU) == (on_device, on_host)
    assert (
        needs("auto", gpu) == needs("host", gpu) == ([on_device[0], *(it - unet for it in on_device[1:])], [unet] * 3)
    )
    (one,) = checkpoints.checkpoint_needs(weights, names[:1], gpu, "host", precision)
    assert one.host == 0, "a single checkpoint has nothing to take turns with"


def test_a_model_that_does_not_fit_is_refused_in_words_and_the_other_serves(
    demo_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.pulid_lightning.pipeline.load", None)  # must not be reached
    settings = WorkerSettings(device="cpu", weights_dir=demo_weights, data_dir=tmp_path)
    free = iter((1000 * MB, 50 * MB))
    models = LoadedModels("w", settings, host_memory=lambda: next(free))
    with caplog.at_level(logging.ERROR):
        models.load(on_change=lambda: None)
    reports = models.report().models
    assert reports["ic-light"].state is ModelState.READY
    assert reports["pulid-lightning"].state is ModelState.FAILED
    detail = reports["pulid-lightning"].detail
    assert re.match(r"this host has \d\.\d\d GB of memory free where \d\.\d\d GB are needed: face_analysis ", detail)
    for told in ("eva_clip", "pulid_adapter", "sdxl_checkpoint_realistic", "to work in", "FACELIGHT_CHECKPOINTS"):
        assert told in detail
    assert f"cannot serve pulid-lightning: {detail}" in caplog.text


def test_fewer_checkpoints_need_less(demo_weights: Path) -> None:
    weights = WeightSet.open(demo_weights, "pulid-lightning")
    model = MODELS["pulid-lightning"]

    def needed(**options: object) -> int:
        return sum(it.device for it in model.memory_needs(weights, CPU, Options.model_validate(options)))

    assert needed(checkpoints=("default",)) < needed(checkpoints=("default", "artistic")) < needed()
    assert needed(cpu_precision="bfloat16") < 0.8 * needed()
