"""Ten thousand waiting requests."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

from tests.faults.behaviour import Behaviour
from tests.faults.caller import Answer
from tests.faults.cluster import Cluster, cluster
from tests.faults.finding import Fault, Finding, unless
from tests.faults.load import SteadyLoad
from tests.faults.waiting import percentile, until

_STATUS_S = 0.050
_SUBMIT_S = 0.100
_FLAT_MB = 40.0
"""What a gateway's memory may grow by while it answers 30,000 calls."""


def crowded(full: bool, finding: Finding) -> None:
    """Fill the queue to its limit through the door, then measure, then let workers empty it."""
    waiting, seconds = (10_000, 30.0) if full else (400, 4.0)
    with cluster(workers=0, queue_limit=waiting, result_ttl_s=7200) as made:
        memory = [made.gateways[0].rss_mb]
        _fill(made, waiting)
        memory.append(made.gateways[0].rss_mb)
        refused, statuses = _measure(made, seconds, finding)
        submits = _drain(made, seconds, waiting, finding)
        memory.append(made.gateways[0].rss_mb)
        redis_mb = made.redis.client.info("memory")["used_memory_peak"] / 1024**2
        finding.blame(*made.audit(pictures=False))
    p99 = {name: percentile(found, 0.99) for name, found in (("status", statuses), ("submit", submits))}
    finding.trial(unless(p99["status"] <= _STATUS_S or not full, f"status p99 {p99['status'] * 1000:.0f} ms"))
    finding.trial(unless(p99["submit"] <= _SUBMIT_S or not full, f"submit p99 {p99['submit'] * 1000:.0f} ms"))
    finding.trial(unless(memory[2] - memory[1] <= _FLAT_MB, f"the gateway's memory: {memory} MB"))
    finding.figure = (
        f"{waiting} waiting: status p99 {p99['status'] * 1000:.0f} ms, submit p99 {p99['submit'] * 1000:.0f} ms, "
        f"{refused} × 429; gateway {' → '.join(f'{found:.0f}' for found in memory)} MB, Redis ≤ {redis_mb:.0f} MB"
    )


def _fill(made: Cluster, waiting: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: made.caller.submit(Behaviour()), range(waiting)):
            assert answer.code == 200, answer


def _measure(made: Cluster, seconds: float, finding: Finding) -> tuple[int, list[float]]:
    """Statuses of those who wait, and submissions that find no room."""
    ids = list(made.caller.accepted)

    def status() -> Answer:
        return made.caller.call("GET", f"/v2/requests/{random.choice(ids)}/status")

    with SteadyLoad(status, rate=60) as statuses, SteadyLoad(lambda: made.caller.submit(Behaviour()), 5) as refused:
        time.sleep(seconds)
    finding.trial(unless(set(statuses.codes()) == {200}, f"statuses got {statuses.codes()}"))
    told = all("retry-after" in answer.headers for _, answer in refused.answers)
    finding.trial(unless(set(refused.codes()) == {429} and told, f"beyond the limit: {refused.codes()}"))
    return len(refused.answers), statuses.latencies()


def _drain(made: Cluster, seconds: float, waiting: int, finding: Finding) -> list[float]:
    """Workers come; others go on submitting as soon as there is room."""
    with made.more_workers(1):
        until(lambda: made.caller.submit(Behaviour()).code == 200, "room for a submission")
        with SteadyLoad(lambda: made.caller.submit(Behaviour()), rate=15) as load:
            time.sleep(seconds)
        finding.trial(unless(set(load.codes()) == {200}, f"submissions behind {waiting} others got {load.codes()}"))
        made.settled(timeout_s=600)
    return load.latencies()


FAULTS = (
    Fault(
        "F20",
        "ten thousand requests wait",
        "filled through HTTP, one gateway, one worker, 2 cores shared with the client; steady calls, late ones counted",
        "status p99 ≤ 50 ms, submit p99 ≤ 100 ms, 429 with Retry-After past the limit, memory flat",
        crowded,
    ),
)
