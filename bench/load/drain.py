"""How fast a queue is emptied that nothing is computed for."""

from __future__ import annotations

import time
from statistics import median
from typing import Final

from rq import Queue

from bench.load.client import Connection, post_json
from bench.load.requests import tiny_request
from bench.load.roles import SLUG, STOCK_QUEUE, Workload, no_op
from bench.load.stack import Site, Stack, held, wait_until
from bench.report import Report

_JOBS: Final = 200
_ROUNDS: Final = 5


def drain(report: Report, site: Site, scale: float) -> None:
    """200 queued requests, pictures read and stored, against as many empty jobs in RQ's own worker, in turn."""
    jobs = max(10, round(_JOBS * scale))
    rates: dict[str, list[float]] = {"RQ's SimpleWorker": [], "our worker": []}
    with site.stack.stock_worker() as stock, Connection(site.port) as client:
        for _ in range(_ROUNDS):
            rates["RQ's SimpleWorker"].append(jobs / _stock_seconds(site.stack, stock, jobs))
            rates["our worker"].append(jobs / _our_seconds(site, client, jobs))
    for name, measured in rates.items():
        report.add(f"{name}, {jobs} queued no-ops", median(measured), "per s", note=f"median of {_ROUNDS} rounds")
    ratio = median(rates["our worker"]) / median(rates["RQ's SimpleWorker"])
    report.add("drain rate, ours / RQ's SimpleWorker", ratio, "x", goal=">= 3")


def _our_seconds(site: Site, client: Connection, jobs: int) -> float:
    request = post_json(f"/v2/{SLUG}", tiny_request(Workload.TINY))
    with held(site.worker):
        for _ in range(jobs):
            client.ask(request)
        began = time.monotonic()
    wait_until(lambda: site.stack.redis.zcard("facelight:open") == 0, pause_s=0.002)
    return time.monotonic() - began


def _stock_seconds(stack: Stack, worker: int, jobs: int) -> float:
    queue = Queue(STOCK_QUEUE, connection=stack.redis)
    with held(worker):
        queued = [queue.enqueue(no_op) for _ in range(jobs)]
        began = time.monotonic()
    wait_until(lambda: queued[-1].get_status() == "finished", pause_s=0.002)
    return time.monotonic() - began
