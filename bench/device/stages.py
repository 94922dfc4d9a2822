"""Section `stages` of `bench.gpu`: where a request's time goes, what a new face adds, whether anything recompiles."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

import torch
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile

from bench.counts.graphs import random_ic_light, random_pulid
from bench.counts.tracing import around_calls
from bench.device.endpoints import Endpoint, PulidEndpoint
from bench.device.requests import Bench
from bench.full_size.workloads import FirstStepDone, ignore_step, stop_after_one
from bench.report import Row, row
from bench.timing import interleaved, milliseconds
from models.ic_light.matting import RmbgMatting
from models.pulid_lightning.identity.extractor import IdentityExtractor
from models.runtime.cuda_graphs import CudaGraphCapturer

Durations = dict[str, list[float]]
_RANDOM_REQUESTS: Final = 300
_RANDOM_REQUESTS_REDUCED: Final = 20
_WHOLE: Final = 10
"""Of so many random requests one is drawn to its end; the others end with their first step."""
_TOP: Final = 12
_STAGES: Final = {
    "predict_noise": "UNet",
    "encode_pictures": "VAE encode",
    "decode_picture": "VAE decode",
}
_METHODS: Final = ((IdentityExtractor, "extract", "face"), (RmbgMatting, "predict", "matting"))


def rows(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """Everything about one endpoint, which is warm."""
    yield from stages(bench, endpoint)
    if isinstance(endpoint, PulidEndpoint):
        yield from new_face(bench, endpoint)
        yield from other_checkpoint(bench, endpoint)
    yield from kernels(bench, endpoint)
    yield from recompilations(bench, endpoint)


@torch.inference_mode()
def stages(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """Times of a request whose face and texts are new; stages wait for each other, so the sum is an upper bound."""
    repeats = max(2, bench.repeats // 4)
    spent: Durations = defaultdict(list)
    wholes = []
    for seed in range(repeats + 1):
        prepared = _new(endpoint, seed)
        with watched(bench.device, spent):
            wholes.append(milliseconds(endpoint.run(prepared), bench.device))
        if seed == 0:  # the first one is for whatever is set up late
            spent.clear()
            wholes.clear()
    for stage, times in spent.items():
        calls = len(times) / repeats
        note = f"{calls:g} calls of {sum(times) / len(times):.4g} ms"
        yield row(f"{endpoint.name}: stage {stage}", sum(times) / repeats, "ms", note=note)
    known = sum(map(sum, spent.values())) / repeats
    rest = sum(wholes) / repeats - known
    yield row(
        f"{endpoint.name}: everything else", rest, "ms", note="uploads, sampler, downloads, the host's work between"
    )


@torch.inference_mode()
def new_face(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """What a face that was never seen costs a run; it is found in the picture before, by another thread."""
    prepared = endpoint.prepare()
    fresh = iter(range(10**9))
    works = {
        "known": endpoint.run(prepared),
        "new": lambda: endpoint.run(replace(prepared, image_hash=f"face {next(fresh)}"))(),
    }
    timings = interleaved(works, bench.device, max(2, bench.repeats // 2))
    added = timings["new"].median - timings["known"].median
    yield row(f"{endpoint.name}: a new face adds", added, "ms", endpoint.goal("a new face"))


@torch.inference_mode()
def other_checkpoint(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """What it costs to change checkpoints from request to request, both on the device."""
    first, second = endpoint.prepare(), endpoint.prepare(checkpoint_model="artistic")
    works = {"same": endpoint.run(first), "other": lambda: (endpoint.run(second)(), endpoint.run(first)())}
    timings = interleaved(works, bench.device, max(2, bench.repeats // 2))
    added = timings["other"].median / 2 - timings["same"].median
    yield row(f"{endpoint.name}: a change of checkpoint adds", added, "ms", endpoint.goal("a change of checkpoint"))


@torch.inference_mode()
def recompilations(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """What is compiled and recorded while random requests are served, and how many of them find nothing compiled."""
    count = _RANDOM_REQUESTS_REDUCED if bench.reduced else _RANDOM_REQUESTS
    before, unserved = counters["stats"]["unique_graphs"], 0
    with patch.object(CudaGraphCapturer, "__call__", side_effect=AssertionError("recorded while serving")) as recorder:
        for number in range(count):
            unserved += not _served(endpoint, number, bench.reduced)
    compiled = counters["stats"]["unique_graphs"] - before
    yield row(f"{endpoint.name}: graphs compiled in {count} random requests", compiled, "graphs", "== 0")
    yield row(f"{endpoint.name}: graphs recorded in them", recorder.call_count, "graphs", "== 0")
    yield row(f"{endpoint.name}: requests of them that would have to be compiled", unserved, "requests", "== 0")


@torch.inference_mode()
def kernels(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """The operators and kernels that take longest in a warm request."""
    work = endpoint.run(endpoint.prepare())
    work()
    on_cuda = bench.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_cuda
    with profile(activities=activities) as profiled:
        work()
    by = "self_device_time_total" if on_cuda else "self_cpu_time_total"
    spent = {event.key: (getattr(event, by) / 1e3, event.count) for event in profiled.key_averages()}
    whole = sum(time for time, _ in spent.values())
    for key, (time, calls) in sorted(spent.items(), key=lambda item: -item[1][0])[:_TOP]:
        note = f"{time / whole:.1%} in {calls} calls"
        yield row(f"{endpoint.name}: kernel {key[:80]}", time, "ms", note=note)


def _served(endpoint: Endpoint, number: int, reduced: bool) -> bool:
    """Whether what is compiled serves a random request; where nothing is compiled, everything is served."""
    draw, chance = random_pulid if isinstance(endpoint, PulidEndpoint) else random_ic_light, random.Random(number)
    prepared = draw(endpoint.pipeline, chance, 448 if reduced else 1024)
    stance = torch.compiler.set_stance
    try:
        # In place of running as it stands, which a server does then.
        with patch.object(torch.compiler, "set_stance", lambda _: stance("fail_on_recompile")), suppress(FirstStepDone):
            endpoint.pipeline.run([prepared], stop_after_one if number % _WHOLE else ignore_step)
    except RuntimeError as error:
        if "recompile" not in str(error):
            raise
        return False
    return True


@contextmanager
def watched(device: torch.device, spent: Durations) -> Iterator[None]:
    """Put the milliseconds of every stage's calls into `spent`."""

    def around(name: str, work: Callable[[], Any]) -> Any:
        results: list[Any] = []
        spent[_STAGES.get(name, name)].append(milliseconds(lambda: results.append(work()), device))
        return results[0]

    with ExitStack() as patches:
        patches.enter_context(around_calls(around))
        for owner, method, stage in _METHODS:
            patches.enter_context(patch.object(owner, method, _around(getattr(owner, method), stage, around)))
        yield


def _around(method: Callable[..., Any], stage: str, around: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: around(stage, lambda: method(*arguments))


def _new(endpoint: Endpoint, seed: int) -> Any:
    """A request with texts that nobody asked for before, and a face if the endpoint has one."""
    prepared = endpoint.prepare(prompt=f"number {seed}", negative_prompt=f"not {seed}", seed=seed)
    return replace(prepared, image_hash=f"face {seed}") if isinstance(endpoint, PulidEndpoint) else prepared
