"""The master of a replicated Redis is lost, and Sentinels promote a replica."""

from __future__ import annotations

import random
import signal
import time

from tests.faults.audit import audit_keys, audit_pictures
from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.caller import Answer
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.load import SteadyLoad, outages
from tests.faults.processes.replication import ReplicatedRedis
from tests.faults.processes.waiting import percentile, until

_BACK_S = 10.0
_JOB = {"steps": 3, "step_ms": 30.0}


def master_lost(full: bool, finding: Finding) -> None:
    """The master killed, killed while its replicas lag, and frozen until another one is master, in turn."""
    recoveries = list[float]()
    with cluster(workers=3, replicated=True) as made:
        assert made.replicated is not None
        with SteadyLoad(lambda: made.caller.submit(Behaviour(**_JOB), number_of_images=2), rate=10) as load:
            for number in range(50 if full else 3):
                finding.trial(_lose_master(made, made.replicated, number, recoveries))
        made.settled(timeout_s=120)
        lost = {found: state for found in made.caller.accepted if (state := made.caller.status(found)) != "COMPLETED"}
        finding.blame(*[f"{found} is {state}" for found, state in lost.items()])
        finding.blame(*set(outages(load.answers)), *audit_keys(made.replicated.client))
        finding.blame(*audit_pictures(made.caller, made.runs))
        finding.blame(*[f"{member.name} ended" for member in (*made.gateways, *made.workers) if member.exits])
    finding.blame(*[f"calls were back after {s:.1f} s only" for s in recoveries if full and s > _BACK_S])
    codes = ", ".join(f"{count} × {code}" for code, count in load.codes().items())
    finding.figure = (
        f"{len(made.caller.accepted)} accepted, {len(lost)} lost ({codes}); calls are back {max(recoveries):.1f} s at "
        f"most, {percentile(recoveries, 0.5):.1f} s (p50), after the master is lost"
    )


def _lose_master(made: Cluster, nodes: ReplicatedRedis, number: int, recoveries: list[float]) -> str:
    time.sleep(random.uniform(0.2, 1.5))
    master, replicas = nodes.master, nodes.replicas
    lag_s = random.uniform(0.1, 0.8) if number % 3 == 1 else 0.0
    for replica in replicas if lag_s else ():
        replica.send(signal.SIGSTOP)
    time.sleep(lag_s)
    if frozen := number % 3 == 2:
        master.send(signal.SIGSTOP)
    else:
        master.kill()
    lost, answers = time.monotonic(), list[Answer]()
    for replica in replicas if lag_s else ():
        replica.send(signal.SIGCONT)

    def accepted() -> bool:
        answers.append(made.caller.submit(Behaviour()))
        return answers[-1].code == 200

    until(accepted, "a submission after the loss", timeout_s=60)
    recoveries.append(time.monotonic() - lost)
    until(lambda: made.caller.status(answers[-1].request_id) == "COMPLETED", "its completion", timeout_s=60)
    if frozen:
        master.send(signal.SIGCONT)  # it takes itself for the master still
    else:
        master.start()
    nodes.await_replicas()
    complaint = unless(nodes.master is not master, "no replica was promoted")
    return next(iter(outages([(0.0, answer) for answer in answers])), complaint)


FAULTS = (
    Fault(
        "F24",
        "the master of a replicated Redis is lost",
        "SIGKILL, SIGKILL while both replicas lag, and SIGSTOP until a replica was promoted, in turn; two replicas, "
        "three Sentinels (down after 2 s), min-replicas-to-write 1, 10 requests per second",
        "≥ 50; 0 accepted requests lost; 503 with Retry-After meanwhile; calls back within 10 s",
        master_lost,
    ),
)
