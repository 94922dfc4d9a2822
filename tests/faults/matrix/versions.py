"""Two versions at once: everything is replaced by another version, one process after the other, and back."""

from __future__ import annotations

import signal
import time
from typing import Final

from tests.faults.finding import Fault, Finding, unless
from tests.faults.matrix.door import Balancer
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.load import SteadyLoad
from tests.faults.processes.members import Member
from tests.faults.processes.other_version import MORE_FIELDS, other_version
from tests.faults.processes.waiting import until

_CALLS: Final = 1000


def replaced(full: bool, finding: Finding) -> None:
    """Upgrades and ways back under load, behind a client that asks who is ready."""
    times = 10 if full else 1
    with cluster(gateways=2, workers=2, keep=False, drain_delay_s=3 if full else 1) as made:
        theirs = other_version(made.folder / "other", MORE_FIELDS)
        pids: dict[bool, set[int]] = {False: {worker.pid for worker in made.workers}, True: set()}
        with Balancer(made) as balancer, SteadyLoad(balancer.call, rate=15, threads=8) as load:
            for number in range(times):
                is_theirs = number % 2 == 0
                for member in (*made.gateways, *made.workers):
                    finding.blame(_replace(made, member, theirs if is_theirs else {}))
                pids[is_theirs] |= {worker.pid for worker in made.workers}
            until(lambda: len(load.answers) >= (_CALLS if full else 100), "all calls", timeout_s=120)
        made.settled()
        for _, answer in load.answers:
            finding.trial(unless(answer.code == 200, f"a call got {answer.code} {answer.broke or answer.body}"))
        crossed = _crossed(made, pids)
        finding.blame(
            *[f"no request of {whose} was run by the other" for whose, n in crossed.items() if full and not n]
        )
        finding.blame(*made.audit())
    failed = sum(answer.code != 200 for _, answer in load.answers)
    older, newer = crossed["the older version"], crossed["the newer version"]
    older, newer = crossed["the older version"], crossed["the newer version"]
    finding.figure = (
        f"{failed} failed of {len(load.answers)} calls across {times} changes of version; the older version ran "
        f"{newer} requests of the newer one, the newer one {older} of the older"
    )


def _replace(made: Cluster, member: Member, version: dict[str, str]) -> str:
    """Stop a process by SIGTERM, start the other version in its place, and wait until it is ready."""
    time.sleep(1.0)
    status = member.kill(signal.SIGTERM)
    member.environment = {**_without_version(member.environment), **version}
    member.start()
    made.wait_until_ready()
    if member in made.gateways:
        number = made.gateways.index(member)
        until(lambda: made.caller.call("GET", "/health/ready", number).code == 200, f"{member.name} to be ready")
    return unless(status in (0, -signal.SIGTERM), f"{member.name} ended with status {status}")


def _without_version(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}


def _crossed(made: Cluster, pids: dict[bool, set[int]]) -> dict[str, int]:
    """How many requests that one version has written were run by a worker of the other, by their writer."""
    crossed = {"the newer version": 0, "the older version": 0}
    for request_id, label in made.caller.accepted.items():
        is_theirs = made.redis.client.hget(f"facelight:request:{request_id}", "shade") is not None
        ran_elsewhere = any(run.pid in pids[not is_theirs] for run in made.runs.of(label))
        crossed["the newer version" if is_theirs else "the older version"] += ran_elsewhere
    return crossed


FAULTS = (
    Fault(
        "VERSIONS",
        "everything is replaced by another version",
        "two gateways, then two workers, one after the other by SIGTERM, by a version whose records have a field more, "
        "and back, 15 calls per second, of which every fourth waits for its picture",
        "0 failed of 1,000 calls; each version serves the other's requests; every accepted request ends once",
        replaced,
    ),
)
