"""Steady load for a long time while workers keep dying: `python -m tests.faults.soak [--minutes 30]`."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread

from tests.faults.audit import lasting_keys
from tests.faults.audit_log import read_audit_log
from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.caller import Answer
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.load import SteadyLoad
from tests.faults.processes.waiting import until
from tests.faults.report import line, publish

_TTL_S = 60
_KILL_EVERY_S = 20.0
_SAMPLE_EVERY_S = 5.0
_FLAT_SHARE = 0.01
"""Of the memory, per 1,000 requests."""
_SWEPT_S = 600.0


@dataclass
class Memory:
    """Samples of one process: (requests accepted until then, MiB)."""

    samples: list[tuple[int, float]] = field(default_factory=list)

    @property
    def slope(self) -> float:
        """MiB per 1,000 requests: least squares over all but the first third, in which a process warms up."""
        kept = self.samples[len(self.samples) // 3 :]
        mean_x = sum(x for x, _ in kept) / len(kept)
        mean_y = sum(y for _, y in kept) / len(kept)
        spread = sum((x - mean_x) ** 2 for x, _ in kept)
        return 1000 * sum((x - mean_x) * (y - mean_y) for x, y in kept) / spread if spread else 0.0

    @property
    def share(self) -> float:
        """The slope as a share of what the process holds."""
        return self.slope / self.samples[-1][1]

    def __str__(self) -> str:
        return f"{self.samples[-1][1]:.0f} MB {self.slope:+.2f} MB per 1,000 requests ({self.share:+.2%})"


def soak(minutes: float, rate: float, finding: Finding) -> None:
    """Submit and ask steadily, kill a worker every 20 s, then check audit log, memory, disk and keys."""
    gateway, redis = Memory(), Memory()
    with cluster(workers=3, result_ttl_s=_TTL_S, request_ttl_s=_TTL_S * 2) as made:
        with _load(made, rate), _sampled(made, gateway, redis):
            kills = _kill_for(made, minutes * 60)
        made.settled(timeout_s=120)
        lives = read_audit_log(made.redis.append_only_file)
        finding.trials = len(made.caller.accepted)
        failed = [found for found in made.caller.accepted if found in lives and lives[found].states[-1] == "FAILED"]
        finding.blame(*made.audit(pictures=False), *[f"{found} is FAILED" for found in failed])
        until(lambda: not _files(made), "the expired files to be removed", _SWEPT_S, pause_s=2)
        keys = sorted(lasting_keys(made.redis.client))
    for name, memory in (("the gateway", gateway), ("Redis", redis)):
        finding.blame(unless(memory.share < _FLAT_SHARE, f"{name} grows: {memory}"))
    finding.figure = (
        f"{minutes:g} min, {rate:g} requests/s, {kills} workers killed, 0 lost; gateway {gateway}; Redis {redis}; "
        f"no expired file left; lasting keys: {', '.join(keys)}"
    )


@contextmanager
def _load(made: Cluster, rate: float) -> Iterator[None]:
    def status() -> Answer:
        recent = list(made.caller.accepted)[-100:] or ["none"]
        return made.caller.call("GET", f"/v2/requests/{random.choice(recent)}/status")

    submit = SteadyLoad(lambda: made.caller.submit(Behaviour(steps=4, step_ms=50)), rate, keep=False)
    with submit, SteadyLoad(status, rate * 2, keep=False):
        yield


@contextmanager
def _sampled(made: Cluster, gateway: Memory, redis: Memory) -> Iterator[None]:
    ended = Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_EVERY_S):
            count = len(made.caller.accepted)
            gateway.samples.append((count, made.gateways[0].rss_mb))
            redis.samples.append((count, made.redis.rss_mb))

    thread = Thread(target=sample, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


def _kill_for(made: Cluster, seconds: float) -> int:
    ends, kills = time.monotonic() + seconds, 0
    while time.monotonic() + _KILL_EVERY_S < ends:
        time.sleep(_KILL_EVERY_S)
        worker = random.choice(made.workers)
        if worker.alive:
            worker.send(signal.SIGKILL)
            kills += 1
    time.sleep(max(0.0, ends - time.monotonic()))
    return kills


def _files(made: Cluster) -> list[str]:
    return [path.name for path in (made.data_dir / "store").rglob("*") if path.is_file()]


def main() -> int:
    """Run, print, and write the row of the document; 0 if all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=8, help="requests per second")
    parser.add_argument("--dry", action="store_true", help="leave the document as it is")
    options = parser.parse_args()
    began = time.monotonic()
    fault = Fault(
        "F23",
        "long steady use",
        "a worker killed every 20 s, results that live 60 s",
        "nothing lost, memory within 1 % per 1,000 requests, no expired file, no growing key",
        lambda _full, finding: soak(options.minutes, options.rate, finding),
    )
    finding = fault.find(full=True)
    sys.stdout.write(line(fault, finding, time.monotonic() - began))
    if not options.dry:
        publish(fault, finding)
    return 1 if finding.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
