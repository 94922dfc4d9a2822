"""What goes wrong on the device: errors that break it, memory that runs out, kernels that never return."""

from __future__ import annotations

from tests.faults.behaviour import Behaviour, Ending
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.members import ends_of
from tests.faults.processes.waiting import until

_HASTY = {"heartbeat_ttl_s": 2, "janitor_interval_s": 0.5}
_GRACE_S = 10.0
"""What the watchdog allows beyond the deadline."""
_EXACT_S = 2.0


def broken_device(full: bool, finding: Finding) -> None:
    """An error after which a process can use its device no more, once and always."""
    with cluster(workers=2, **({} if full else _HASTY)) as made:
        for on_runs in (1, None) * (5 if full else 1):
            _break(made, on_runs, finding)
        finding.blame(*made.audit())
        exits = [status for worker in made.workers for status in worker.exits]
    statuses = ", ".join(map(str, sorted(set(exits))))
    finding.blame(unless(bool(exits) and 0 not in exits, f"the processes ended with {exits}"))
    finding.figure = f"{len(exits)} processes left, status {statuses}; each request ran twice"


def _break(made: Cluster, on_runs: int | None, finding: Finding) -> None:
    request_id, label = _submit(made, "device_error", on_runs)
    made.settled()
    runs, state = made.runs.of(label), made.caller.status(request_id)
    expected = "FAILED" if on_runs is None else "COMPLETED"
    finding.trial(unless(state == expected, f"{request_id} is {state}, not {expected}"))
    pids = {run.pid for run in runs}
    finding.blame(unless(len(runs) == len(pids) == 2, f"{request_id}: {len(runs)} runs in {len(pids)} processes"))


def memory_runs_out(full: bool, finding: Finding) -> None:
    """The device's memory runs out, once and always."""
    with cluster(workers=1, keep=False) as made:
        pid = made.workers[0].pid
        for on_runs in (1, None) * (10 if full else 1):
            _run_out(made, on_runs, finding)
        finding.blame(*made.audit())
        finding.blame(unless(made.workers[0].alive and made.workers[0].pid == pid, "the worker ended"))
    finding.figure = "one retry in the same process each time, 0 restarts, the next request completed"


def _run_out(made: Cluster, on_runs: int | None, finding: Finding) -> None:
    request_id, label = _submit(made, "out_of_memory", on_runs)
    after = made.caller.accept(Behaviour())
    made.settled()
    state, words = made.caller.status(request_id), made.caller.result(request_id).get("error")
    runs = made.runs.count(label)
    if on_runs is None:
        fine = (state, runs) == ("FAILED", 2) and "memory" in str(words)
    else:
        fine = (state, runs) == ("COMPLETED", 2)
    finding.trial(unless(fine, f"{request_id} ran {runs} times and is {state} ({words})"))
    finding.blame(unless(made.caller.status(after) == "COMPLETED", "the request behind it did not complete"))


def hung(full: bool, finding: Finding) -> None:
    """A run that never comes back."""
    limit_s, attempts = (3, 2) if full else (1, 1)
    settings = {"job_timeout_s": limit_s, "max_attempts": attempts, **({} if full else _HASTY)}
    with cluster(workers=5 if full else 1, **settings) as made:
        jobs = [_submit(made, "hang", None) for _ in made.workers]
        until(lambda: all(made.runs.count(label) for _, label in jobs), "the jobs to begin")
        ends = ends_of(made.workers, limit_s + _GRACE_S + 5)
        late = [ends[run.pid] - run.began - limit_s - _GRACE_S for run in made.runs.all() if run.pid in ends]
        made.settled(timeout_s=120)
        for request_id, label in jobs:
            runs, state = made.runs.count(label), made.caller.status(request_id)
            finding.trial(unless((runs, state) == (attempts, "FAILED"), f"{request_id}: {runs} runs, {state}"))
        finding.blame(*made.audit())
    finding.blame(*[f"a process was ended {s:+.1f} s from its time" for s in late if abs(s) > _EXACT_S])
    finding.figure = f"ended {min(late):+.2f} … {max(late):+.2f} s from deadline + 10 s"


def _submit(made: Cluster, ending: Ending, on_runs: int | None) -> tuple[str, str]:
    behaviour = Behaviour(steps=2, step_ms=20, ending=ending, on_runs=on_runs)
    return made.caller.accept(behaviour), behaviour.label


FAULTS = (
    Fault(
        "F3",
        "the device fails during a request",
        "torch's own AcceleratorError from the run, on the first run only and on every run",
        "the process ends; retried once in another process, then FAILED",
        broken_device,
    ),
    Fault(
        "F4",
        "the device's memory runs out",
        "torch's own OutOfMemoryError from the run, on the first run only and on every run",
        "retried once in the same process, then FAILED with a message; 0 restarts",
        memory_runs_out,
    ),
    Fault(
        "F5",
        "a run hangs",
        "an endless loop without steps",
        "the process is ended at deadline + 10 s, ± 2 s; retried once, then FAILED",
        hung,
    ),
)
