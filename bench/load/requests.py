"""How long a request takes that nothing is computed for."""

from __future__ import annotations

import base64
from functools import partial
from typing import Any, Final

import httpx

from bench.load.client import Connection, Exchange, in_turn, percentile, post_json
from bench.load.roles import SLUG, Workload, photo, png
from bench.load.stack import Site
from bench.report import Report

_PAIRS: Final = 400
_WARM_UP: Final = 50


def overhead(report: Report, site: Site, scale: float) -> None:
    """A v1 call through gateway, queue and worker against the bare application's answer to the same body, in turn.

    Once as a client sees it that is written with httpx, as the endpoints' client library is, and once by sockets that
    are nearly free, which leaves the servers alone.
    """
    body, pairs = tiny_request(Workload.TINY), max(10, round(_PAIRS * scale))
    with site.stack.bare() as other:
        with httpx.Client(trust_env=False) as client:
            _compare(report, "httpx", _by_httpx(client, other, site.port, body), pairs, goal="<= 3")
        with Connection(other) as bare, Connection(site.port) as ours:
            _compare(report, "sockets", _by_sockets(bare, ours, body), pairs)


def _by_httpx(client: httpx.Client, bare: int, ours: int, body: dict[str, Any]) -> list[Exchange]:
    def post(url: str) -> Exchange:
        return lambda: client.post(url, json=body).raise_for_status()

    return [post(f"http://127.0.0.1:{bare}/no-op"), post(f"http://127.0.0.1:{ours}/v1/{SLUG}")]


def _by_sockets(bare: Connection, ours: Connection, body: dict[str, Any]) -> list[Exchange]:
    return [partial(bare.ask, post_json("/no-op", body)), partial(ours.ask, post_json(f"/v1/{SLUG}", body))]


def _compare(report: Report, client: str, exchanges: list[Exchange], pairs: int, goal: str | None = None) -> None:
    bare, ours = in_turn(exchanges, pairs, _WARM_UP)
    for name, times in (("bare FastAPI no-op", bare), ("no-op through gateway, queue, worker", ours)):
        report.add(f"{name}, {client}: p50", percentile(times, 0.5), "ms", note=f"p99 {percentile(times, 0.99):.2f} ms")
    ratio = percentile(ours, 0.5) / percentile(bare, 0.5)
    report.add(f"no-op request / bare no-op, {client}", ratio, "x", goal=goal, note="of p50, exchanges interleaved")


def tiny_request(workload: Workload) -> dict[str, Any]:
    """The smallest body that the model takes, with a prompt that the played models know."""
    uri = f"data:image/png;base64,{base64.b64encode(png(photo(32))).decode()}"
    return {"face_image": uri, "prompt": str(workload)}
