"""Sections `a` and `b` of `bench.gpu`: requests and evaluations against the baselines and against the roofline."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, Final

import torch
from torch import Tensor

from bench.counts.tracing import Call, decoded_latents, recorded_calls
from bench.device.endpoints import WAYS, Endpoint
from bench.full_size.workloads import distance, ignore_step
from bench.report import Row, row
from bench.timing import Work, interleaved, matmul_rate

_SEEDS: Final = (1, 2, 3)
_GIB: Final = 2**30


@dataclass(frozen=True)
class Bench:
    """How to measure: where, at which size, how often."""

    device: torch.device
    reduced: bool
    repeats: int

    @cached_property
    def rate(self) -> float:
        """FLOP in a second of large matrix products, measured once a run."""
        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        return matmul_rate(self.device, dtype, self.repeats)

    def roofline(self, flop: int) -> float:
        """Milliseconds that so much work takes at that rate."""
        return flop / self.rate * 1e3


def rows(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """Everything about one endpoint."""
    yield row("large matrix products", bench.rate / 1e12, "TFLOP/s")
    yield warm_up(endpoint)
    yield from memory(bench, endpoint)
    yield from pictures(bench, endpoint)
    yield from evaluations(bench, endpoint)
    yield from requests(bench, endpoint)
    yield from numerics(endpoint)


def warm_up(endpoint: Endpoint) -> Row:
    """What happens once at start-up."""
    start = time.perf_counter()
    endpoint.pipeline.warm_up()
    return row(f"{endpoint.name}: warm-up", time.perf_counter() - start, "s")


@torch.inference_mode()
def memory(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """Peak of a request's memory on CUDA, all networks of the endpoint included."""
    if bench.device.type != "cuda":
        return
    for count in (1, 8):
        torch.cuda.reset_peak_memory_stats(bench.device)
        endpoint.run(endpoint.prepare(number_of_images=count))()
        peak = torch.cuda.max_memory_allocated(bench.device) / _GIB
        yield row(f"{endpoint.name}: peak memory, {count} pictures", peak, "GiB")


@torch.inference_mode()
def pictures(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """What a picture costs among several of one request, and among several requests."""
    counts = (1, 4, 8)
    works: dict[str, Work] = {f"of {count}": endpoint.run(endpoint.prepare(number_of_images=count)) for count in counts}
    works["of 4 requests"] = endpoint.run(*(endpoint.prepare(seed=seed) for seed in range(4)))
    timings = interleaved(works, bench.device, max(1, bench.repeats // 4))
    each = {name: timings[name].median / number for name, number in zip(works, (*counts, 4), strict=True)}
    for name, taken in each.items():
        yield row(f"{endpoint.name}: one picture {name}", taken, "ms")
    for name in list(works)[1:]:
        known = f"{name} / of 1"
        yield row(f"{endpoint.name}: one picture {known}", each[name] / each["of 1"], "", endpoint.goal(known))


@torch.inference_mode()
def evaluations(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """One evaluation for both branches, at each size that a default request has."""
    prepared = endpoint.prepare()
    with recorded_calls() as calls:
        endpoint.pipeline.run([prepared], ignore_step)
    for call in _one_of_each_size(calls):
        size = tuple(call.inputs[0].shape[2:])
        plain: dict[str, Work] = {way: by_default(endpoint.evaluation(way, prepared, call)) for way in WAYS}
        timings = interleaved({"ours": call.again, **plain}, bench.device, bench.repeats)
        roofline = bench.roofline(endpoint.least_evaluation(*size))
        name = f"{endpoint.name}: evaluation at {size[0]}x{size[1]},"
        yield row(f"{name} roofline", roofline, "ms")
        for way, timing in timings.items():
            yield row(f"{name} {way}", timing.median, "ms", note=f"least {timing.least:.4g} ms")
        goal = endpoint.goal("evaluation / roofline")
        yield row(f"{name} ours / roofline", timings["ours"].median / roofline, "", goal)
        for way in WAYS:
            yield row(f"{name} {way} / ours", timings[way].median / timings["ours"].median, "")


@torch.inference_mode()
def requests(bench: Bench, endpoint: Endpoint) -> Iterator[Row]:
    """A default request, its face and texts known, from latents to pictures on the host."""
    prepared = endpoint.prepare()
    plain: dict[str, Work] = {way: by_default(endpoint.request(way, prepared)) for way in WAYS}
    timings = interleaved({"ours": endpoint.run(prepared), **plain}, bench.device, bench.repeats)
    roofline = bench.roofline(endpoint.least(1))
    yield row(f"{endpoint.name}: request, roofline", roofline, "ms", note=f"{endpoint.least(1) / 1e12:.4g} TFLOP")
    for way, timing in timings.items():
        yield row(f"{endpoint.name}: request, {way}", timing.median, "ms", note=f"least {timing.least:.4g} ms")
    ours = timings["ours"].median
    yield row(f"{endpoint.name}: request, ours / roofline", ours / roofline, "", endpoint.goal("ours / roofline"))
    for way in WAYS:
        ratio = timings[way].median / ours
        yield row(f"{endpoint.name}: request, {way} / ours", ratio, "", endpoint.goal(f"{way} / ours"))


def by_default(work: Work) -> Work:
    """A baseline's work with the attention kernel that torch chooses; ours never has cuDNN's, see `set_up_cuda`."""

    def done() -> Any:
        ours = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
        torch.backends.cuda.enable_cudnn_sdp(True)
        try:
            return work()
        finally:
            torch.backends.cuda.enable_cudnn_sdp(ours)

    return done


@torch.inference_mode()
def numerics(endpoint: Endpoint) -> Iterator[Row]:
    """How far latents are from those of a wider precision on the same noise, as a mean over seeds."""
    wider = torch.float64 if endpoint.unet.dtype == torch.float32 else torch.float32
    exact_unet = plain_copy_in(endpoint.unet, wider)
    errors: list[tuple[list[float], list[float]]] = []
    for seed in _SEEDS:
        prepared = endpoint.prepare(seed=seed)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            exact = endpoint.latents("reference", prepared, exact_unet)
        plain = endpoint.latents("diffusers", prepared, endpoint.plain_unets["diffusers"])
        errors.append((_distances(_ours(endpoint, prepared), exact), _distances(plain, exact)))
    for number, (ours, plain) in enumerate(
        zip(*(zip(*way, strict=True) for way in zip(*errors, strict=True)), strict=True)
    ):
        name = f"{endpoint.name}: latents of pass {number + 1}, distance to {str(wider).removeprefix('torch.')},"
        yield row(f"{name} ours", fmean(ours), "relative")
        yield row(f"{name} diffusers", fmean(plain), "relative")
        goal = endpoint.goal("latents, ours / diffusers")
        yield row(f"{name} ours / diffusers", fmean(ours) / fmean(plain), "", goal)


def plain_copy_in(unet: Any, dtype: torch.dtype) -> Any:
    """The UNet's weights in another precision, as the libraries lay them out in memory."""
    return copy.deepcopy(unet).to(dtype).to(memory_format=torch.contiguous_format)


def _ours(endpoint: Endpoint, prepared: Any) -> list[Tensor]:
    """Latents of every pass; they hold one picture each."""
    with recorded_calls() as calls:
        endpoint.pipeline.run([prepared], ignore_step)
    return decoded_latents(calls)


def _distances(found: Sequence[Tensor], exact: Sequence[Tensor]) -> list[float]:
    return [distance(a, b) for a, b in zip(found, exact, strict=True)]


def _one_of_each_size(calls: Sequence[Call]) -> list[Call]:
    """The last evaluation of each size."""
    return list({call.inputs[0].shape: call for call in calls if call.name == "predict_noise"}.values())
