"""What Redis knows of all requests and workers: read when Prometheus asks, and the same from every gateway.

Several gateways tell the same figures: queries take the maximum over them (`max by (model)`), never the sum.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from models.catalog import MODELS
from server.settings import GatewaySettings
from workers.state.connection import connect, wait_budget
from workers.state.record import FailureReason, Status
from workers.state.registry import ModelState, WorkerRegistry, WorkerReport
from workers.state.statistics import Statistics, StatisticsReader
from workers.store.base import S3_LOCATION

_log = logging.getLogger(__name__)
_PATIENCE_S: Final = 2.0
"""For Redis, in one scrape: less than Prometheus' own."""
ASSUMED_DEVICE_S: Final = 5.0
"""Seconds that a request has the device, until one has ended."""
_ENDS: Final = [(Status.COMPLETED, ""), *((Status.FAILED, reason.value) for reason in FailureReason)]
_EXECUTIONS: Final = ("compiled", "captured", "eager")


class QueueMetrics(Collector):
    """Reads Redis once per scrape. Without Redis it says so, and nothing else."""

    def __init__(self, registry: CollectorRegistry, settings: GatewaySettings) -> None:
        redis = connect(settings.redis_url)
        self._statistics = StatisticsReader(redis)
        self._workers = WorkerRegistry(redis, settings.heartbeat_ttl_s)
        self._settings = settings
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Nothing: names and labels do not depend on what Redis holds, and it is not asked for them."""
        return []

    def collect(self) -> Iterable[Metric]:
        """All families as they are now."""
        yield GaugeMetricFamily(
            "facelight_queue_limit", "Requests that may wait for one model.", self._settings.queue_limit
        )
        yield from _store_space(self._settings.store_location)
        try:
            with wait_budget(_PATIENCE_S):
                statistics, workers = self._statistics.read(), self._workers.live_workers()
        except RedisError as error:
            _log.warning("no figures of the queue without Redis: %s", error)
            yield _redis_up(False)
            return
        yield _redis_up(True)
        yield from _queues(statistics)
        yield from _totals(statistics)
        yield from _of_workers(statistics, workers)


def _redis_up(is_up: bool) -> Metric:
    return GaugeMetricFamily("facelight_redis_up", "Whether this gateway can read the queue in Redis.", int(is_up))


def _queues(statistics: Statistics) -> Iterable[Metric]:
    waiting = GaugeMetricFamily(
        "facelight_requests_waiting", "Requests that wait for a worker.", labels=["model", "variant"]
    )
    device = GaugeMetricFamily(
        "facelight_request_gpu_seconds",
        "Running mean of a request's time on the device; 5 until one has ended.",
        labels=["model", "variant"],
    )
    load = GaugeMetricFamily(
        "facelight_waiting_gpu_seconds",
        "Time on the device that the waiting requests are expected to take.",
        labels=["model", "variant"],
    )
    oldest = GaugeMetricFamily(
        "facelight_oldest_waiting_seconds", "For how long the oldest waiting request has waited.", labels=["model"]
    )
    running = GaugeMetricFamily("facelight_requests_running", "Requests that a worker has.", labels=["model"])
    for (slug, variant), count in statistics.waiting.items():
        mean = statistics.counts.get(f"{slug}:device_s:{variant}", ASSUMED_DEVICE_S)
        waiting.add_metric([slug, variant], count)
        device.add_metric([slug, variant], mean)
        load.add_metric([slug, variant], count * mean)
    for slug in MODELS:
        oldest.add_metric([slug], max(age for queue, age in statistics.oldest_s.items() if queue[0] == slug))
        running.add_metric([slug], statistics.running.get(slug, 0))
    paused = GaugeMetricFamily("facelight_queue_paused", "Whether workers claim nothing.", int(statistics.paused))
    return [waiting, device, load, oldest, running, paused]


def _totals(statistics: Statistics) -> Iterable[Metric]:
    ended = CounterMetricFamily(
        "facelight_requests", "Requests that have ended.", labels=["model", "outcome", "reason"]
    )
    accepted = CounterMetricFamily("facelight_requests_accepted", "Requests that were accepted.", labels=["model"])
    requeued = CounterMetricFamily(
        "facelight_requests_requeued", "Requests that were queued again, as their worker died.", labels=["model"]
    )
    charged = CounterMetricFamily("facelight_credits_charged", "Credits of metered keys.", labels=["model"])
    refunded = CounterMetricFamily(
        "facelight_credits_refunded", "Credits that came back, as the request FAILED.", labels=["model"]
    )
    for slug in MODELS:
        for status, reason in _ENDS:
            ended.add_metric([slug, status.lower(), reason], statistics.count(slug, status, reason))
        accepted.add_metric([slug], statistics.count(slug, "accepted"))
        requeued.add_metric([slug], statistics.count(slug, "requeued"))
        charged.add_metric([slug], statistics.count(slug, "charged"))
        refunded.add_metric([slug], statistics.count(slug, "refunded"))
    return [ended, accepted, requeued, charged, refunded]


def _of_workers(statistics: Statistics, workers: Sequence[WorkerReport]) -> Iterable[Metric]:
    alive = GaugeMetricFamily("facelight_workers_alive", "Worker processes with a heartbeat.", len(workers))
    states = GaugeMetricFamily(
        "facelight_workers", "Live workers by the state of a model in them.", labels=["model", "state"]
    )
    fallbacks = GaugeMetricFamily(
        "facelight_fallbacks",
        "Ready workers that run a model in a slower way than was chosen, by how they run it.",
        labels=["model", "kind"],
    )
    for slug in MODELS:
        reports = [worker.effective(slug) for worker in workers if slug in worker.models]
        by_state = Counter(report.state for report in reports)
        kinds = Counter(report.execution for report in reports if report.fallback and report.state is ModelState.READY)
        for state in ModelState:
            states.add_metric([slug, state.value], by_state[state])
        for kind in _EXECUTIONS:
            fallbacks.add_metric([slug, kind], kinds[kind])
    started = CounterMetricFamily(
        "facelight_workers_started", "Workers that announced themselves.", statistics.count("worker", "started")
    )
    lost = CounterMetricFamily(
        "facelight_workers_lost", "Workers that ended without a word.", statistics.count("worker", "lost")
    )
    return [alive, states, fallbacks, started, lost]


def _store_space(location: str) -> Iterable[Metric]:
    """Room on the disk of a store that is a folder; a bucket has none that is known."""
    if S3_LOCATION.fullmatch(location) or not Path(location).is_dir():
        return
    usage = shutil.disk_usage(location)
    yield GaugeMetricFamily("facelight_store_size_bytes", "Size of the disk that pictures are on.", usage.total)
    yield GaugeMetricFamily("facelight_store_free_bytes", "Room on the disk that pictures are on.", usage.free)
