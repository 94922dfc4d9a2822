"""How long a request takes that nothing is computed for."""

from __future__ import annotations

import base64
from contextlib import ExitStack
from typing import Any, Final

from bench.report import Report
from bench.serving_client import Connection, message, percentile, post_json, timed_ms
from bench.serving_roles import SLUG, Trick, photo, png
from bench.serving_stack import Stack

_PAIRS: Final = 400
_WARM_UP: Final = 50


def overhead(report: Report, stack: Stack, scale: float) -> None:
    """A v1 call through gateway, queue and worker against the bare application's answer to the same body, in turn."""
    body = tiny_request(Trick.TINY)
    with ExitStack() as running:
        port, _ = running.enter_context(stack.gateway())
        running.enter_context(stack.worker(port))
        bare, ours = (running.enter_context(Connection(at)) for at in (running.enter_context(stack.bare()), port))
        exchanges = {
            "bare FastAPI no-op": (bare, post_json("/no-op", body)),
            "no-op request through gateway, queue, worker": (ours, post_json(f"/v1/{SLUG}", body)),
            "probe (/health/live)": (ours, message("GET", "/health/live")),
        }
        taken = _in_turn(list(exchanges.values()), round(_PAIRS * scale))
    for (name, _), times in zip(exchanges.items(), taken, strict=True):
        report.add(f"{name}, p50", percentile(times, 0.5), "ms")
        report.add(f"{name}, p99", percentile(times, 0.99), "ms")
    ratio = percentile(taken[1], 0.5) / percentile(taken[0], 0.5)
    report.add("no-op request / bare no-op", ratio, "x", goal="<= 3", note="p50, exchanges interleaved")


def tiny_request(trick: Trick) -> dict[str, Any]:
    """The smallest body that the model takes, with a prompt that the played models know."""
    uri = f"data:image/png;base64,{base64.b64encode(png(photo(32))).decode()}"
    return {"face_image": uri, "prompt": str(trick)}


def _in_turn(exchanges: list[tuple[Connection, bytes]], rounds: int) -> list[list[float]]:
    """Times in ms of each exchange; all of them in every round, so that what disturbs one disturbs the others."""
    taken: list[list[float]] = [[] for _ in exchanges]
    for number in range(_WARM_UP + rounds):
        for times, (connection, request) in zip(taken, exchanges, strict=True):
            spent = timed_ms(connection, request)
            if number >= _WARM_UP:
                times.append(spent)
    return taken
