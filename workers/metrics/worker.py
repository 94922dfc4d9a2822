"""What one worker process counts for Prometheus."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from workers.metrics.endpoint import MOMENTS, PATIENCE
from workers.metrics.events import WorkerEvents
from workers.state.record import Record

_BATCHES: Final = (1, 2, 4, 8, 16, 32)


class WorkerMetrics(WorkerEvents):
    """Counts what the stages tell. Labels are slugs and names of stages, never ids or what a caller has written."""

    def __init__(self, registry: CollectorRegistry, slugs: Iterable[str], clock: Callable[[], float]) -> None:
        """`clock` tells the time that stamps the records, in seconds since the epoch."""
        self._clock = clock
        model: Any = {"labelnames": ["model"], "registry": registry}
        moments, patience = {**model, "buckets": MOMENTS}, {**model, "buckets": PATIENCE}
        self._waits = Histogram(
            "facelight_queue_wait_seconds", "From when a request was queued to when it was claimed.", **patience
        )
        self._requests = Histogram(
            "facelight_request_seconds",
            "From when a request was accepted to its end in a worker.",
            **{**patience, "labelnames": ["model", "outcome"]},
        )
        self._stages = Histogram(
            "facelight_stage_seconds",
            "Computing time of a request by stage; requests of one batch have the batch's time each.",
            **{**moments, "labelnames": ["model", "stage"]},
        )
        self._steps = Histogram("facelight_step_seconds", "From one denoise step of a run to the next.", **moments)
        self._batches = Histogram(
            "facelight_batch_size", "Requests that had the device together.", **{**model, "buckets": _BATCHES}
        )
        self._device = Counter("facelight_gpu_seconds", "For how long runs had the device.", **model)
        self._images = Counter("facelight_images", "Pictures of completed requests.", **model)
        self._retries = Counter("facelight_retries", "Requests that were tried again in the same process.", **model)
        self._heartbeats = Counter(
            "facelight_heartbeat_failures", "Heartbeats that could not be written.", registry=registry
        )
        for slug in slugs:  # from the start at 0: a counter that appears with its first event has no rate
            for metric in (self._waits, self._steps, self._batches, self._device, self._images, self._retries):
                metric.labels(slug)

    def claimed(self, record: Record) -> None:
        """A request was claimed: what it waited in this attempt."""
        self._waits.labels(record.slug).observe(max(0.0, (record.started_at or record.queued_at) - record.queued_at))

    def stepped(self, slug: str, seconds: float) -> None:
        """A denoise step was done."""
        self._steps.labels(slug).observe(seconds)

    def ran(self, slug: str, requests: int, seconds: float) -> None:
        """Requests had the device together."""
        self._batches.labels(slug).observe(requests)
        self._device.labels(slug).inc(seconds)

    def retried(self, slug: str) -> None:
        """A request is tried again in this process."""
        self._retries.labels(slug).inc()

    def ended(self, record: Record, stages: Mapping[str, float], pictures: int) -> None:
        """A request came to its end by this worker."""
        outcome = "completed" if pictures else "failed"
        self._requests.labels(record.slug, outcome).observe(max(0.0, self._clock() - record.created_at))
        self._images.labels(record.slug).inc(pictures)
        for stage, seconds in stages.items():
            self._stages.labels(record.slug, stage).observe(seconds)

    def heartbeat_failed(self) -> None:
        """A heartbeat could not be written."""
        self._heartbeats.inc()


class GpuMemory(Collector):
    """Memory of the worker's GPU, asked when it is scraped; nothing without a GPU."""

    def __init__(self, registry: CollectorRegistry, device: Callable[[], str]) -> None:
        """`device` tells the torch device once it is known."""
        self._device = device
        registry.register(self)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name and meaning, without asking the GPU."""
        text = "Memory of the GPU: by torch's tensors (allocated, its peak), kept by torch (reserved), free and in all."
        return [GaugeMetricFamily("facelight_gpu_memory_bytes", text, labels=["kind"])]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The memory now. torch is looked up only if the worker has begun to use a GPU."""
        (family,) = self.describe()
        torch, device = sys.modules.get("torch"), self._device()
        if torch is not None and device.startswith("cuda") and torch.cuda.is_initialized():
            try:
                free, total = torch.cuda.mem_get_info(device)
            except RuntimeError:  # a device that is broken: the worker ends by itself
                return [family]
            family.add_metric(["allocated"], torch.cuda.memory_allocated(device))
            family.add_metric(["peak"], torch.cuda.max_memory_allocated(device))
            family.add_metric(["reserved"], torch.cuda.memory_reserved(device))
            family.add_metric(["free"], free)
            family.add_metric(["total"], total)
        return [family]
