"""Ten thousand waiting requests."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.caller import Answer
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.load import SteadyLoad
from tests.faults.processes.waiting import percentile, until

_STATUS_S = 0.050
_SUBMIT_S = 0.100
_STATUSES_PER_S = 60.0
_SUBMITS_PER_S = 15.0
_FLAT_MB = 20.0
"""What a gateway's memory may grow by after the first ten thousand requests."""


def crowded(full: bool, finding: Finding) -> None:
    """Fill the queue through the door, measure, fill it to its limit, and let a worker empty it."""
    waiting, seconds = (10_000, 40.0) if full else (400, 4.0)
    with cluster(workers=0, queue_limit=waiting + int(_SUBMITS_PER_S * seconds * 1.5)) as made:
        memory = [made.gateways[0].rss_mb]
        _fill(made, waiting)
        memory.append(made.gateways[0].rss_mb)
        statuses, submits = _measure(made, seconds, finding)
        refused = _overfill(made, seconds / 4, finding)
        with made.more_workers(1):
            made.settled(timeout_s=900)
        memory.append(made.gateways[0].rss_mb)
        redis_mb = made.redis.client.info("memory")["used_memory_peak"] / 1024**2
        finding.blame(*made.audit(pictures=False))
    for name, found, limit in (("status", statuses, _STATUS_S), ("submit", submits, _SUBMIT_S)):
        finding.trial(unless(found <= limit or not full, f"{name} p99 is {found * 1000:.0f} ms"))
    finding.trial(unless(memory[2] - memory[1] <= _FLAT_MB, f"the gateway's memory: {memory} MB"))
    finding.figure = (
        f"{waiting} waiting: status p99 {statuses * 1000:.0f} ms, submit p99 {submits * 1000:.0f} ms, {refused} × 429; "
        f"gateway {' → '.join(f'{found:.0f}' for found in memory)} MB, Redis ≤ {redis_mb:.0f} MB"
    )


def _fill(made: Cluster, waiting: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: made.caller.submit(Behaviour()), range(waiting)):
            assert answer.code == 200, answer


def _measure(made: Cluster, seconds: float, finding: Finding) -> tuple[float, float]:
    """99th percentiles of statuses and of submissions while all others wait, in seconds."""
    ids = list(made.caller.accepted)

    def status() -> Answer:
        return made.caller.call("GET", f"/v2/requests/{random.choice(ids)}/status")

    submits = SteadyLoad(lambda: made.caller.submit(Behaviour()), _SUBMITS_PER_S)
    with SteadyLoad(status, _STATUSES_PER_S) as statuses, submits:
        time.sleep(seconds)
    for load in (statuses, submits):
        finding.trial(unless(set(load.codes()) == {200}, f"calls got {load.codes()}"))
    return percentile(statuses.latencies(), 0.99), percentile(submits.latencies(), 0.99)


def _overfill(made: Cluster, seconds: float, finding: Finding) -> int:
    """Submissions that find no room; returns how many there were."""
    until(lambda: made.caller.submit(Behaviour()).code == 429, "the queue's limit", pause_s=0)
    with SteadyLoad(lambda: made.caller.submit(Behaviour()), _SUBMITS_PER_S) as refused:
        time.sleep(seconds)
    told = all("retry-after" in answer.headers for _, answer in refused.answers)
    finding.trial(unless(set(refused.codes()) == {429} and told, f"beyond the limit: {refused.codes()}"))
    return len(refused.answers)


FAULTS = (
    Fault(
        "F20",
        "ten thousand requests are queued",
        f"filled through HTTP, one gateway, the client on the same cores; then {_STATUSES_PER_S:.0f} statuses and "
        f"{_SUBMITS_PER_S:.0f} submissions per second, waiting included; then a worker serves all of them",
        "status p99 ≤ 50 ms, submit p99 ≤ 100 ms, 429 with Retry-After past the limit, memory flat",
        crowded,
    ),
)
