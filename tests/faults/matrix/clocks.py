"""Time: what expires when, and clocks that jump."""

from __future__ import annotations

import time

from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.fake_clock import set_clock
from tests.faults.processes.waiting import until

_TTL_S = 3600
_SLACK_S = 5.0
_SWEPT_S = 380.0
"""Files are kept for 5 minutes beyond their time, for downloads under way, and swept once a minute."""
_HOUR_S = 3600.0
_HALF_HOUR_S = 1800


def expired(full: bool, finding: Finding) -> None:
    """Results with a short life for real, and with the hour as shipped by the stamps that they carry."""
    with cluster(workers=1) as made:
        for _ in range(20 if full else 2):
            finding.trial(_of_stamps(made))
        finding.blame(*made.audit())
    with cluster(workers=1, result_ttl_s=3) as made:
        ids = [made.caller.accept(Behaviour()) for _ in range(20 if full else 2)]
        made.settled()
        for request_id in ids:
            finding.trial(_of_short_life(made, request_id))
        if full:
            until(lambda: not _pictures(made), "the files to be removed", _SWEPT_S, pause_s=1)
    removed = "; files removed from the disk" if full else ""
    finding.figure = f"200 before, 404 after, of result and picture; stamps within {_SLACK_S:.0f} s of 1 h{removed}"


def _of_stamps(made: Cluster) -> str:
    request_id = made.caller.accept(Behaviour())
    until(lambda: made.caller.status(request_id) == "COMPLETED", "a request to complete", pause_s=0.01)
    record_s = made.redis.client.pttl(f"facelight:request:{request_id}") / 1000
    file_s = _life_of_picture(made, request_id)
    near = all(abs(seconds - _TTL_S) <= _SLACK_S for seconds in (record_s, file_s))
    return unless(near, f"{request_id} lives for {record_s:.1f} s, its picture for {file_s:.1f} s")


def _life_of_picture(made: Cluster, request_id: str) -> float:
    """Seconds, by the true clock, until the picture of a request expires: its name says when."""
    name = made.caller.result(request_id)["images"][0]["file_name"]
    return int(name.rpartition("-")[2].partition(".")[0]) - time.time()


def _of_short_life(made: Cluster, request_id: str) -> str:
    result = made.caller.call("GET", f"/v2/requests/{request_id}")
    if result.code == 200:  # it may be late to look at the last of many
        path = result.body["images"][0]["url"].removeprefix(made.caller.urls[0])
        if made.caller.call("GET", path).code != 200:
            return f"the picture of {request_id} was gone before its record"
        until(lambda: made.caller.call("GET", path).code == 404, "the end of a picture", 6)
    until(lambda: made.caller.call("GET", f"/v2/requests/{request_id}").code == 404, "the end of a result", 6)
    return ""


def _pictures(made: Cluster) -> list[str]:
    return [path.name for path in (made.data_dir / "store").rglob("*.png")]


def jumps(full: bool, finding: Finding) -> None:
    """The wall clock of a gateway or a worker jumps by an hour in the middle of a job."""
    with cluster(workers=2, job_timeout_s=60, result_ttl_s=_HALF_HOUR_S) as made:
        for _ in range(5 if full else 1):
            for process in ("worker", "gateway"):
                for shift_s in (_HOUR_S, -_HOUR_S):
                    finding.trial(_jump(made, process, shift_s))
        finding.blame(*made.audit(pictures=False))
    finding.figure = "each ran once, completed, and showed its picture as long as its record"


def _jump(made: Cluster, process: str, shift_s: float) -> str:
    behaviour = Behaviour(steps=10, step_ms=100)
    request_id = made.caller.accept(behaviour)
    until(lambda: made.runs.count(behaviour.label), "the job to begin")
    set_clock(made.data_dir, process, shift_s)
    try:
        made.settled()
        runs, state = made.runs.count(behaviour.label), made.caller.status(request_id)
        if (runs, state) != (1, "COMPLETED"):
            return f"{process} {shift_s:+.0f} s: {runs} runs, {state}"
        if None in made.caller.pictures(request_id):
            return f"{process} {shift_s:+.0f} s: the picture of a completed request cannot be had"
        lives_s = _life_of_picture(made, request_id)
        lasts = lives_s >= _HALF_HOUR_S - _SLACK_S
        return unless(lasts, f"{process} {shift_s:+.0f} s: a picture lives for {lives_s:.0f} s only")
    finally:
        set_clock(made.data_dir, process, 0.0)


FAULTS = (
    Fault(
        "F15",
        "results expire",
        "a TTL of 3 s waited for, and the timestamps of results with the default TTL of 1 h",
        "200 before, 404 after, 3600 ± 5 s, file deleted",
        expired,
    ),
    Fault(
        "F19",
        "clocks jump",
        "the wall clock of gateway or worker moved by ± 1 h in the middle of a job",
        "nothing expires early, no request is presumed lost",
        jumps,
    ),
)
