"""Whether the thread that uses the GPU waits for pictures to be encoded."""

from __future__ import annotations

import json
from itertools import pairwise
from statistics import median
from typing import Any, Final

from bench.load.client import Connection, post_json
from bench.load.requests import tiny_request
from bench.load.roles import SLUG, TRACE, Workload
from bench.load.stack import Site, Stack, held, wait_until
from bench.report import Report

_JOBS: Final = 12


def blocking(report: Report, site: Site, scale: float) -> None:
    """Queued runs of 80 ms whose pictures of 1024 px square are encoded for real, and the same with nothing to encode.

    What the pictures' encoding adds to the time between two runs is what the thread waits for it.
    """
    jobs = max(4, round(_JOBS * scale))
    gaps = {}
    with Connection(site.port) as client:
        for workload in (Workload.TRACED, Workload.ENCODED):
            _queue_and_wait(site, client, workload, jobs)
            gaps[workload] = _gaps_ms(_notes(site.stack, workload, "run"))
    encoding = _notes(site.stack, Workload.ENCODED, "finish")
    drawing = {note["thread"] for note in _notes(site.stack, Workload.ENCODED, "run")}
    own = sum(note["end"] - note["begin"] for note in encoding if note["thread"] in drawing)
    spent = median((note["end"] - note["begin"]) * 1000 for note in encoding)
    report.add("encoding on the GPU thread", own * 1000, "ms", goal="== 0", note=f"{len(encoding)} pictures")
    report.add("encoding one picture, elsewhere", spent, "ms", note="PNG, 1024 px square, while the next run lasts")
    report.add("between two runs, nothing to encode, p50", median(gaps[Workload.TRACED]), "ms")
    report.add("between two runs, pictures to encode, p50", median(gaps[Workload.ENCODED]), "ms")


def _queue_and_wait(site: Site, client: Connection, workload: Workload, jobs: int) -> None:
    # Several pictures per request would be drawn in one run; with a size of its own each request is drawn alone.
    bodies = [{**tiny_request(workload), "width": 512 + 64 * (number % 2)} for number in range(jobs)]
    with held(site.worker):
        for body in bodies:
            client.ask(post_json(f"/v2/{SLUG}", body))
    wait_until(lambda: site.stack.redis.zcard("facelight:open") == 0)


def _notes(stack: Stack, workload: Workload, stage: str) -> list[dict[str, Any]]:
    lines = (stack.folder / TRACE).read_text().splitlines()
    notes = [note for line in lines if (note := json.loads(line))["workload"] == workload and note["stage"] == stage]
    return sorted(notes, key=lambda note: float(note["begin"]))


def _gaps_ms(runs: list[dict[str, Any]]) -> list[float]:
    return [(after["begin"] - before["end"]) * 1000 for before, after in pairwise(runs)]
